// A Worker that is told a socket's number, and nothing else.
import { Socket } from "@winsock/handoff";

const worker = self as unknown as Worker;
worker.onmessage = async ({ data }: MessageEvent<bigint>) => {
  const socket = Socket.fromHandle(data);
  const conn = socket.toConn();
  const buffer = new Uint8Array(5);
  const length = await conn.read(buffer);
  await conn.write(
    new TextEncoder().encode(`the thread read ${new TextDecoder().decode(buffer.subarray(0, length ?? 0))}`),
  );
  conn.close();
  worker.postMessage("done");
};
