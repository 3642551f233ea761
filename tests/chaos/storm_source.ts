// Hands each connection to one of its targets, and to another when it comes back; replaces targets that end. It withdraws
// some itself. Commands on stdin: `go`, `rest`. Arguments, if its first target is to have threads: how many, and another
// copy of the library. Half of the connections of that target are opened by threads, from blobs.
import { duplicateSocket, HandoffError, HandoffSource, listen, Socket } from "@winsock/handoff";
import { defaultProvider } from "../../spi/default_provider.ts";
import { readLines, StormAnswer, type StormData, type StormEvent } from "./storm.ts";

const TARGETS = 2;
/** Long enough for a target to start on any machine. What is not taken is withdrawn earlier. */
const TIMEOUT_MS = 25_000;
const PATIENCE_MS = 1_500;
const WITHDRAWN_OF_100 = 8;
const WITHDRAWN_WITHIN_MS = 4;
const TARGET = new URL("storm_target.ts", import.meta.url);
const WITHDRAWN = new Error("withdrawn");
const BLOBS_OF_100 = 50;
const HAS_THREADS = Deno.args.length > 0;

const targets: (HandoffSource | undefined)[] = [];
let going = false;
let keeping: Promise<void>[] = [];
const onTheirWay = new Set<Promise<void>>();

// Deno opens two descriptors for signals half a second after its start, unless it has them already.
Deno.addSignalListener("SIGINT", () => {});
const listener = listen({ hostname: "127.0.0.1", port: 0 });
// What the first duplicate opens is there to stay.
if (HAS_THREADS && Deno.build.os !== "windows") {
  defaultProvider().withdraw(defaultProvider().duplicateSocket(listener.handle, Deno.pid));
}
acceptAll();
report({ listens: listener.addr.port });
for await (const line of readLines(Deno.stdin.readable)) await obey(line);
Deno.exit();

async function obey(command: string): Promise<void> {
  if (command === "go") {
    going = true;
    keeping = Array.from({ length: TARGETS }, (_, index) => keepTarget(index));
    return;
  }
  report({ waitsUntil: "all are handed off" });
  await Promise.all(onTheirWay);
  going = false;
  report({ waitsUntil: "its targets are closed" });
  await Promise.all(targets.map((target) => target?.close()));
  report({ waitsUntil: "its targets end" });
  await Promise.all(keeping);
  report({ rests: Math.round(Deno.memoryUsage().rss / 2 ** 20) });
}

async function acceptAll(): Promise<void> {
  for await (const socket of listener) {
    const done = handOff(socket).catch((error) => report({ failed: String(error) }));
    onTheirWay.add(done);
    done.then(() => onTheirWay.delete(done));
  }
}

async function handOff(socket: Socket): Promise<void> {
  const id = Number(new TextDecoder().decode(await socket.peek(8, { atLeast: 8 })));
  for (;;) {
    const alive = targets.filter((target) => target !== undefined);
    const target = alive[Math.floor(Math.random() * alive.length)];
    if (target === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      continue;
    }
    try {
      if (HAS_THREADS && target === targets[0] && Math.random() * 100 < BLOBS_OF_100) {
        await sendBlob(target, socket, id);
      } else await send(target, socket, { id });
      return report({ id, given: target.child.pid });
    } catch (error) {
      if (!(error instanceof HandoffError) && error !== WITHDRAWN) throw error;
      report({ id, returned: error instanceof HandoffError ? error.outcome : "withdrawn" });
    }
  }
}

/** Has a thread of a target open a connection. */
async function sendBlob(target: HandoffSource, socket: Socket, id: number): Promise<void> {
  const [near, far] = Socket.pair();
  let blob: Uint8Array<ArrayBuffer> | undefined;
  try {
    await send(target, far as Socket, { id, carrier: true });
    using conn = near.toConn();
    // Without an answer the target has ended, has no thread for it, or could not open it.
    if (await readByte(conn) !== StormAnswer.ready) throw new HandoffError("rejected", "no thread is free");
    blob = duplicateSocket(socket, target.child.pid);
    await conn.write(blob).catch(() => {});
    if (await readByte(conn) !== StormAnswer.opened) throw new HandoffError("rejected", "no thread has opened it");
    socket.close();
  } catch (error) {
    if (blob !== undefined) defaultProvider().withdraw(blob);
    throw error;
  } finally {
    near.close();
    far.close();
  }
}

async function readByte(conn: Deno.Conn): Promise<number | undefined> {
  const byte = new Uint8Array(1);
  const length = await conn.read(byte).catch(() => null);
  return length === 1 ? byte[0] : undefined;
}

async function send(target: HandoffSource, socket: Socket, data: StormData): Promise<void> {
  const early = Math.random() * 100 < WITHDRAWN_OF_100;
  const controller = new AbortController();
  const patience = early ? Math.random() * WITHDRAWN_WITHIN_MS : PATIENCE_MS;
  const timer = setTimeout(() => controller.abort(WITHDRAWN), patience);
  try {
    await target.send(socket, { data, signal: controller.signal });
  } finally {
    clearTimeout(timer);
  }
}

/** Has a target in this place until it is time to rest. */
async function keepTarget(index: number): Promise<void> {
  while (going) {
    const source = await HandoffSource.spawn(TARGET, {
      startTimeout: TIMEOUT_MS,
      sendTimeout: TIMEOUT_MS,
      denoFlags: ["--no-check", "--cached-only", "--allow-read"],
      args: index === 0 ? Deno.args : [],
    });
    const { pid, status } = source.child;
    report({ target: pid });
    await source.ready.then(() => targets[index] = source, () => {});
    if (HAS_THREADS && targets[index] === source && index === 0) report({ withThreads: pid });
    // It may have been time to rest before it was ready.
    if (!going) await source.close();
    await source.closed;
    targets[index] = undefined;
    // What ended the channel may have left the process alone; one that rests ends by itself.
    if (going) end(pid);
    await status;
    await source.close();
  }
}

function end(processId: number): void {
  report({ ended: processId });
  try {
    Deno.kill(processId, "SIGKILL");
  } catch {
    // it has ended
  }
}

function report(event: StormEvent): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(event)}\n`));
}
