/**
 * Many clients that say nothing, and what else the process does meanwhile: how long it takes, and what waiting costs.
 *
 *     deno run -A bench/idle_clients.ts [CLIENTS]
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import process from "node:process";
import { connect, listen, type Listener, type Socket } from "@winsock/handoff";
import { defaultProvider, type ServiceProvider, UnixProvider } from "@winsock/handoff/spi";

/** The time of one operation beside idle clients, in milliseconds. */
export interface IdleRow {
  readonly operation: string;
  readonly median: number;
  readonly max: number;
}

/** What was measured. */
export interface IdleResult {
  readonly clients: number;
  readonly rows: readonly IdleRow[];
  /** The processor time of this process while nothing happens, in percent of one processor. */
  readonly cpu: number;
}

const hello = new TextEncoder().encode("hello");

/** Provider that claims a duplicate of another provider, as another process would. */
function otherProvider(): ServiceProvider {
  return Deno.build.os === "windows" ? defaultProvider() : new UnixProvider();
}

async function pair(listener: Listener): Promise<[client: Socket, server: Socket]> {
  return await Promise.all([connect({ port: listener.addr.port }), listener.accept()]);
}

/**
 * Measures operations beside clients that wait in `peek`, and others that wait in `read`.
 *
 * @param count The number of clients.
 * @param rounds The number of times that each operation is done.
 * @param quiet The time for which the processor time is measured, in milliseconds.
 */
export async function measureIdle(count: number, rounds: number, quiet: number): Promise<IdleResult> {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const [source, target] = [otherProvider(), otherProvider()];
  const file = await Deno.makeTempFile();
  const idle: Socket[] = [];
  const waiting: Promise<unknown>[] = [];
  for (let index = 0; index < count; index++) {
    const [client, server] = await pair(listener);
    idle.push(client, server);
    waiting.push((index % 2 === 0 ? server.peek(1) : server.read(1)).catch(() => {}));
  }
  const saying = async (use: (server: Socket) => Promise<unknown>) => {
    const [client, server] = await pair(listener);
    using conn = client.toConn();
    const used = use(server);
    await conn.write(hello);
    await used;
    server.close();
  };
  const operations: Readonly<Record<string, () => Promise<unknown>>> = {
    connect: async () => (await pair(listener)).forEach((socket) => socket.close()),
    peek: () => saying((server) => server.peek(5, { atLeast: 5 })),
    read: () => saying((server) => server.read(5)),
    claim: async () => target.closeSocket(await target.socket(source.duplicateSocket(listener.handle, Deno.pid))),
    "file read": () => Deno.readFile(file),
    // Wine does not know the name. That takes a thread of the pool, too.
    "name lookup": () => lookup("localhost").catch(() => {}),
  };
  try {
    const rows: IdleRow[] = [];
    for (const [operation, run] of Object.entries(operations)) {
      const times: number[] = [];
      await run();
      for (let round = 0; round < rounds; round++) {
        const begun = performance.now();
        await run();
        times.push(performance.now() - begun);
      }
      times.sort((a, b) => a - b);
      rows.push({ operation, median: times[rounds >> 1]!, max: times.at(-1)! });
    }
    const [cpu, begun] = [process.cpuUsage(), performance.now()];
    await new Promise((resolve) => setTimeout(resolve, quiet));
    const { user, system } = process.cpuUsage(cpu);
    return { clients: count, rows, cpu: (user + system) / 10 / (performance.now() - begun) };
  } finally {
    for (const socket of idle) socket.close();
    await Promise.all(waiting);
    await Deno.remove(file);
  }
}

if (import.meta.main) {
  const { clients, rows, cpu } = await measureIdle(Number(Deno.args[0] ?? 2_000), 50, 10_000);
  console.log(`${clients} idle clients; while nothing happens, ${cpu.toFixed(2)} % of a processor`);
  for (const { operation, median, max } of rows) {
    console.log(`${operation.padEnd(12)} median ${median.toFixed(2)} ms, longest ${max.toFixed(2)} ms`);
  }
}
