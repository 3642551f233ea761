/**
 * A pool in which any worker may get a client first, and hands the client on to the worker that has its room.
 *
 *     deno run --allow-run --allow-ffi=… examples/rooms.ts
 *
 * A client says the number of its room in its first line. The worker that reads the line gives the connection back, with
 * what it has read after it, and the pool gives it to the worker of that room. The client notices nothing.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { connect, listen, receive, type Socket, WorkerPool } from "@winsock/handoff";

const MAX_LINE = 1_024;
const PATIENCE_MS = 5_000;
const WORKERS = 2;
const NEWLINE = 10;

if (Deno.args[0] === "worker") await work();
else await serve();

async function serve(): Promise<void> {
  await using pool = new WorkerPool({
    script: import.meta.url,
    args: ["worker"],
    size: WORKERS,
    onReturn: ({ data }) => ({ data, worker: (data as { room: number }).room % WORKERS }),
  });
  pool.addEventListener("workermessage", ({ worker, data }) => console.log(`Worker ${worker.index}: ${data}`));
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const serving = pool.serve(listener);
  for (const room of [0, 1, 2, 3]) {
    using client = (await connect({ port: listener.addr.port })).toConn();
    await client.write(new TextEncoder().encode(`${room}\nhello`));
    await client.closeWrite();
    console.log(await new Response(client.readable).text());
  }
  listener.close();
  await serving;
}

async function work(): Promise<void> {
  const target = receive();
  for await (const { socket, data } of target) {
    if (data === undefined) direct(socket).catch(() => socket.close());
    else await answer(socket, (data as { room: number }).room);
  }

  /** Reads the number of the room, and gives the connection back. */
  async function direct(socket: Socket): Promise<void> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    let bytes: Uint8Array = new Uint8Array(0);
    while (!bytes.includes(NEWLINE)) {
      const more = await socket.read(MAX_LINE, { signal });
      if (more === null || bytes.byteLength > MAX_LINE) throw new Error("The client has said no room");
      bytes = concat([bytes, more]);
    }
    const end = bytes.indexOf(NEWLINE);
    const room = Number(new TextDecoder().decode(bytes.subarray(0, end))) || 0;
    socket.unread(bytes.subarray(end + 1));
    await target.postMessage(`the next one is for room ${room}`);
    await target.send(socket, { data: { room } });
  }
}

async function answer(socket: Socket, room: number): Promise<void> {
  using conn = socket.toConn();
  const text = await new Response(conn.readable).text();
  await conn.write(new TextEncoder().encode(`Process ${Deno.pid} has room ${room}, and was told "${text}"`));
}
