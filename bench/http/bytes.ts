/**
 * How many bytes go through one connection.
 *
 * @module
 */

/** What is asked for: bytes from the server, or what was sent back. */
export type Transfer = "one way" | "echo";

const BUFFER_SIZE = 262_144;
/** Messages this short are echoed one by one: each is sent when the one before has come back. */
const SHORT = 1_024;

/**
 * MiB a second that come from a server of `streams.ts`, for some milliseconds after a fifth of that.
 *
 * @param size How much is written at a time, a power of 2.
 */
export async function measureBytes(
  port: number,
  transfer: Transfer,
  size: number,
  milliseconds: number,
): Promise<number> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new Uint8Array([(transfer === "echo" ? "e" : "w").charCodeAt(0), Math.log2(size)]));
  const chunk = new Uint8Array(size);
  const byOne = transfer === "echo" && size <= SHORT;
  if (transfer === "echo" && !byOne) send(conn, chunk).catch(() => {});
  const buffer = new Uint8Array(BUFFER_SIZE);
  const begin = performance.now() + milliseconds / 5;
  const end = begin + milliseconds;
  let read = 0;
  for (let now = performance.now(); now < end; now = performance.now()) {
    if (byOne) await conn.write(chunk);
    const count = await conn.read(buffer);
    if (count === null) throw new Error("The server has ended the connection");
    if (now >= begin) read += count;
  }
  return read / 1024 ** 2 / (milliseconds / 1_000);
}

async function send(conn: Deno.Conn, chunk: Uint8Array): Promise<void> {
  for (;;) {
    for (let sent = 0; sent < chunk.length;) sent += await conn.write(chunk.subarray(sent));
  }
}
