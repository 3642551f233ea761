// A thread of a target. The first message names the copy of the library that it uses; then it is told a blob, says whether it
// has opened it, and answers the connection when it is told to.
const thread = self as unknown as Worker;
let opened: Deno.TcpConn | undefined;

thread.onmessage = async ({ data: library }: MessageEvent<string>) => {
  const { openSocket } = await import(library) as typeof import("@winsock/handoff");
  thread.onmessage = async ({ data }: MessageEvent<"serve" | Uint8Array>) => {
    if (data === "serve") {
      await serve(opened!);
      thread.postMessage("idle");
    } else {
      opened = await openSocket(data, { kind: "connection" }).then(
        (s) => s.toConn(),
        () => undefined,
      );
      thread.postMessage(opened !== undefined);
    }
  };
  thread.postMessage("idle");
};

async function serve(conn: Deno.TcpConn): Promise<void> {
  try {
    const buffer = new Uint8Array(32);
    const length = await conn.read(buffer) ?? 0;
    await conn.write(new TextEncoder().encode(`${new TextDecoder().decode(buffer.subarray(0, length))} ${Deno.pid}\n`));
    while (await conn.read(buffer) !== null);
  } catch {
    // the client has gone
  } finally {
    conn.close();
  }
}
