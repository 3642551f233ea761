/**
 * Short exchanges over a connection, with an end to everything.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";

/**
 * Talks over a connection, which is closed at the end, or when it takes too long.
 *
 * @param conn The connection.
 * @param milliseconds How long it may take.
 * @param talk What is said.
 * @returns What `talk` returns.
 * @throws {Deno.errors.TimedOut} If it takes longer.
 */
export async function converse<T>(conn: Deno.TcpConn, milliseconds: number, talk: () => Promise<T>): Promise<T> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    conn.close();
  }, milliseconds);
  try {
    return await talk();
  } catch (error) {
    throw late ? new Deno.errors.TimedOut(`The peer took longer than ${milliseconds} ms`, { cause: error }) : error;
  } finally {
    clearTimeout(timer);
    conn.close();
  }
}

/**
 * Reads what a peer says until it ends its side.
 *
 * @param conn The connection.
 * @param most The most bytes it may say.
 * @returns The bytes.
 * @throws {RangeError} If it says more; nothing more is read.
 */
export async function readToEnd(conn: Deno.TcpConn, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(Math.min(most + 1, 65_536));
  for (let length = 0;;) {
    const count = await conn.read(buffer);
    if (count === null) return concat(chunks);
    length += count;
    if (length > most) throw new RangeError(`The peer sent more than ${most} bytes`);
    chunks.push(buffer.slice(0, count));
  }
}
