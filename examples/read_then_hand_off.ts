/**
 * Reads a line from a connection, and hands the connection off together with the bytes that were read after the line.
 *
 *     deno run --allow-run --allow-ffi=… examples/read_then_hand_off.ts [full|free …]
 *
 * Each argument is a worker: `full` rejects the connection, and `free` answers on it. If no worker takes the
 * connection, this process answers. It then also has all bytes.
 *
 * If the line only has to be examined and fits into the receive buffer of the system, use `socket.peek`. The connection
 * is then handed off unchanged, as in `sni_router.ts`. Read the line if it can be longer, or must be answered before
 * the next one arrives.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { connect, HandoffError, HandoffSource, LIBRARY_PATHS, listen, receive, type Socket } from "@winsock/handoff";

/** The maximum length of the line, in bytes. Input from clients must have a limit. */
const MAX_BYTES = 4_096;
const PATIENCE_MS = 5_000;
const NEWLINE = 10;

const [first, ...others] = Deno.args;
if (first === "worker") await work(others[0]!);
else await handOn(Deno.args.length > 0 ? Deno.args : ["full", "free"]);

async function handOn(kinds: readonly string[]): Promise<void> {
  const workers = kinds.map(startWorker);
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using client = (await connect({ port: listener.addr.port })).toConn();
  await client.write(new TextEncoder().encode("room 7\nhello there"));
  await client.closeWrite();

  using socket = await listener.accept();
  const line = await readLine(socket);
  console.log(`Process ${Deno.pid} has read "${line}", and ${socket.initialBytes.byteLength} bytes too far`);
  if (!await sendToOne(workers, socket)) await answer(socket);

  console.log(await new Response(client.readable).text());
  for (const worker of workers) await worker.close();
}

/**
 * Reads up to the first newline. The bytes after it are put back: the socket keeps them, also when it is handed off.
 */
async function readLine(socket: Socket): Promise<string> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  let bytes: Uint8Array = new Uint8Array(0);
  while (!bytes.includes(NEWLINE)) {
    if (bytes.byteLength >= MAX_BYTES) throw new RangeError(`The line is longer than ${MAX_BYTES} bytes`);
    // A stream would read ahead, and the bytes that it has read cannot be put back.
    const more = await socket.read(MAX_BYTES, { signal });
    if (more === null) throw new Error("The client has gone");
    bytes = concat([bytes, more]);
  }
  const end = bytes.indexOf(NEWLINE);
  socket.unread(bytes.subarray(end + 1));
  return new TextDecoder().decode(bytes.subarray(0, end));
}

/** Offers a connection to one worker after the other. Returns whether a worker took it. Otherwise it is unchanged. */
async function sendToOne(workers: readonly HandoffSource[], socket: Socket): Promise<boolean> {
  for (const worker of workers) {
    try {
      await worker.send(socket);
      return true;
    } catch (error) {
      if (!(error instanceof HandoffError)) throw error;
      console.log(error.message);
    }
  }
  return false;
}

function startWorker(kind: string): HandoffSource {
  const args = ["run", "--quiet", "--no-prompt", `--allow-ffi=${LIBRARY_PATHS.join(",")}`, import.meta.url];
  return new HandoffSource(
    new Deno.Command(Deno.execPath(), { args: [...args, "worker", kind], stdin: "piped" }).spawn(),
  );
}

async function work(kind: string): Promise<void> {
  for await (const received of receive({ autoAccept: false })) {
    if (kind === "full") received.reject(`process ${Deno.pid} has no room`);
    else await received.accept().then(() => answer(received.socket));
  }
}

/** Answers with the text that was read from the connection. */
async function answer(socket: Socket): Promise<void> {
  using conn = socket.toConn();
  const text = await new Response(conn.readable).text();
  await conn.write(new TextEncoder().encode(`Process ${Deno.pid} answers "${text}"`));
}
