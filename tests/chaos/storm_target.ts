// Takes connections, answers each with what it has read, and waits for the client to end. It rejects some. Arguments, if it
// has threads: how many, and another copy of the library that half of them use.
import { receive, type Socket } from "@winsock/handoff";
import { StormAnswer, type StormData, type StormEvent } from "./storm.ts";

const REJECTED_OF_100 = 2;
const [count = "0", copy = ""] = Deno.args;
const library = new URL("../../mod.ts", import.meta.url).href;
const threads = Array.from({ length: Number(count) }, (_, index) => {
  const worker = new Worker(new URL("storm_thread.ts", import.meta.url), { type: "module" });
  worker.postMessage(index % 2 === 0 ? library : copy);
  return worker;
});
/** Those that have said that they are ready, and wait for a blob. */
const idle: Worker[] = [];
/** The connections that threads have. */
const serving = new Set<Promise<void>>();
await Promise.all(threads.map((thread) => new Promise((resolve) => thread.onmessage = resolve)));
idle.push(...threads);

for await (const received of receive({ autoAccept: false })) {
  if (Math.random() * 100 < REJECTED_OF_100) {
    received.reject("not this one");
    continue;
  }
  const { id, carrier } = received.data as StormData;
  received.accept().then(() => {
    if (carrier === true) {
      const served = openByThread(received.socket, id).finally(() => serving.delete(served));
      serving.add(served);
    } else {
      report({ id, taken: Deno.pid });
      serve(received.socket.toConn());
    }
  }, () => {});
}
while (serving.size > 0) await Promise.all(serving);
for (const thread of threads) thread.terminate();

/** Has a thread open what a blob describes, tells the source, and lets the thread answer, which it waits for. */
async function openByThread(carrier: Socket, id: number): Promise<void> {
  const thread = idle.pop();
  const conn = carrier.toConn();
  try {
    if (thread !== undefined && await openBy(thread, conn)) {
      report({ id, taken: Deno.pid, thread: true });
      await ask(thread, "serve");
    }
  } finally {
    if (thread !== undefined) idle.push(thread);
    try {
      conn.close();
    } catch {
      // it is closed
    }
  }
}

/** Says something to a thread, and returns what it says next. */
function ask(thread: Worker, message: string | Uint8Array): Promise<unknown> {
  return new Promise((resolve) => {
    thread.onmessage = ({ data }) => resolve(data);
    thread.postMessage(message);
  });
}

/** Has a thread open what comes over a connection, and says there that it has. Then the source no longer has it. */
async function openBy(thread: Worker, conn: Deno.Conn): Promise<boolean> {
  const blob = new Uint8Array(628);
  let read = 0;
  try {
    await conn.write(Uint8Array.of(StormAnswer.ready));
    while (read < blob.byteLength) read += await conn.read(blob.subarray(read)) ?? Infinity;
  } catch {
    // The source has ended.
  }
  if (read !== blob.byteLength || await ask(thread, blob) !== true) return false;
  try {
    await conn.write(Uint8Array.of(StormAnswer.opened));
    conn.close();
  } catch {
    // The source has ended: it is this process's all the same.
  }
  return true;
}

async function serve(conn: Deno.Conn): Promise<void> {
  try {
    const buffer = new Uint8Array(32);
    const length = await conn.read(buffer) ?? 0;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
    await conn.write(new TextEncoder().encode(`${new TextDecoder().decode(buffer.subarray(0, length))} ${Deno.pid}\n`));
    while (await conn.read(buffer) !== null);
  } catch {
    // the client has gone
  } finally {
    conn.close();
  }
}

function report(event: StormEvent): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(event)}\n`));
}
