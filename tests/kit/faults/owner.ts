/** What the owner of a connection does with it, in either process: whoever else did the same would be heard too. */

/** Says who owns it, answers every line with that and the line, and closes at `bye` or the end. */
export async function own(conn: Deno.Conn, name: string): Promise<void> {
  const encoder = new TextEncoder();
  try {
    await conn.write(encoder.encode(`${name}\n`));
    for await (const line of linesOf(conn)) {
      if (line === "bye") return;
      await conn.write(encoder.encode(`${name} ${line}\n`));
    }
  } catch {
    // the peer has gone
  } finally {
    conn.close();
  }
}

export async function* linesOf(conn: Deno.Conn): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(1_000);
  let text = "";
  for (let length = await conn.read(buffer); length !== null; length = await conn.read(buffer)) {
    const parts = (text + decoder.decode(buffer.subarray(0, length))).split("\n");
    text = parts.pop()!;
    yield* parts;
  }
  if (text !== "") yield text;
}
