// A worker that answers each text message of a WebSocket with its process id and the text. When it is told to move, it
// hands every WebSocket back, with the bytes that it has read ahead; another worker goes on.
import { concat } from "@std/bytes/concat";
import { duplicateSocket, openSocket, receive, type Socket } from "@winsock/handoff";

const CHUNK = 1_000;
const target = receive();
let move = new AbortController();

(async () => {
  for await (const _message of target.messages) {
    move.abort();
    move = new AbortController();
  }
})();

for await (const { socket, data } of target) serve(socket, data === "open");

async function serve(socket: Socket, open: boolean): Promise<void> {
  // A second descriptor writes. The socket itself reads nothing that it does not return.
  const writer = (await openSocket(duplicateSocket(socket, Deno.pid), { kind: "connection" })).toConn();
  const { signal } = move;
  let bytes: Uint8Array = new Uint8Array(0);
  /** Reads more; `false` at the end. */
  const more = async () => {
    const read = await socket.read(CHUNK, { signal });
    if (read !== null) bytes = concat([bytes, read]);
    return read !== null;
  };
  try {
    if (!open) bytes = await shakeHands(writer, () => bytes, more);
    for (;;) {
      const frame = textFrame(bytes);
      if (frame === undefined) {
        if (!await more()) break;
        continue;
      }
      bytes = bytes.subarray(frame.size);
      if (frame.opcode === 8) break;
      await writeAll(writer, textOf(`${Deno.pid} ${frame.text.slice(0, frame.text.indexOf(" "))}`));
    }
    socket.close();
  } catch (error) {
    if (!signal.aborted) throw error;
    socket.unread(bytes);
    await target.send(socket, { data: "open" });
  } finally {
    writer.close();
  }
}

/** Answers the request of a handshake. Returns the bytes behind it. */
async function shakeHands(
  writer: Deno.Conn,
  bytes: () => Uint8Array,
  more: () => Promise<boolean>,
): Promise<Uint8Array> {
  let end: number;
  while ((end = new TextDecoder("latin1").decode(bytes()).indexOf("\r\n\r\n")) === -1) await more();
  const head = new TextDecoder().decode(bytes().subarray(0, end));
  const key = head.match(/sec-websocket-key: *(\S+)/i)![1]!;
  const hashed = new TextEncoder().encode(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
  const accept = btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-1", hashed))));
  const headers = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`;
  await writeAll(writer, new TextEncoder().encode(`HTTP/1.1 101 Switching Protocols\r\n${headers}`));
  return bytes().subarray(end + 4);
}

/** The first frame of a client, if all of it has come. */
function textFrame(bytes: Uint8Array): { size: number; opcode: number; text: string } | undefined {
  if (bytes.byteLength < 2) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const short = bytes[1]! & 127;
  const start = short === 126 ? 4 : 2;
  if (bytes.byteLength < start + 4) return undefined;
  const length = short === 126 ? view.getUint16(2) : short;
  const size = start + 4 + length;
  if (bytes.byteLength < size) return undefined;
  const payload = bytes.slice(start + 4, size).map((byte, index) => byte ^ bytes[start + index % 4]!);
  return { size, opcode: bytes[0]! & 15, text: new TextDecoder().decode(payload) };
}

function textOf(text: string): Uint8Array {
  return concat([Uint8Array.of(0x81, text.length), new TextEncoder().encode(text)]);
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.byteLength;) sent += await conn.write(bytes.subarray(sent));
}
