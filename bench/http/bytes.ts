/**
 * How many bytes go through one connection.
 *
 * @module
 */

/** What is asked for: bytes from the server, or what was sent back. */
export type Transfer = "one way" | "echo";

const CHUNK = 65_536;

/** MiB a second that come from a server of `streams.ts`, for some milliseconds after a fifth of that. */
export async function measureBytes(port: number, transfer: Transfer, milliseconds: number): Promise<number> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode(transfer === "echo" ? "e" : "w"));
  if (transfer === "echo") send(conn).catch(() => {});
  const buffer = new Uint8Array(4 * CHUNK);
  const begin = performance.now() + milliseconds / 5;
  const end = begin + milliseconds;
  let read = 0;
  for (let now = performance.now(); now < end; now = performance.now()) {
    const count = await conn.read(buffer);
    if (count === null) throw new Error("The server has ended the connection");
    if (now >= begin) read += count;
  }
  return read / 1024 ** 2 / (milliseconds / 1_000);
}

async function send(conn: Deno.Conn): Promise<void> {
  for (const chunk = new Uint8Array(CHUNK);;) {
    let sent = 0;
    while (sent < CHUNK) sent += await conn.write(chunk.subarray(sent));
  }
}
