/**
 * Real clients, a pool of real workers, and somebody who kills the workers: what becomes of every connection.
 *
 * @module
 */
import { HandoffError, listen, type Socket, WorkerPool } from "@winsock/handoff";
import { settledDescriptors } from "../kit/descriptors.ts";
import { random } from "../kit/random.ts";
import type { ClientReport } from "./client.ts";

/** How much chaos. */
export interface ChaosOptions {
  connections: number;
  seed: number;
  /**
   * A worker is killed for so many connections that were taken, on average. By the clock, a slow machine would start none that
   * lives.
   */
  killEvery?: number;
  log?: (line: string) => void;
}

/** What became of the connections. */
export interface ChaosReport {
  readonly connections: number;
  readonly answered: number;
  /** Taken by a worker that was killed then. */
  readonly diedWithWorker: number;
  /** Neither answered nor taken by a worker that was killed: there must be none. */
  readonly lost: readonly string[];
  /** Answered twice, or by what is not their own: there must be none. */
  readonly wrong: readonly string[];
  readonly kills: number;
  /** Offers that came back to the source, to be offered again. */
  readonly returned: number;
  readonly seconds: number;
  readonly timeToTake: { readonly p50: number; readonly p99: number; readonly max: number };
  /** Descriptors of the source before the first connection and after the last. */
  readonly descriptors: readonly [before: number, after: number];
  /** The source's resident memory in MiB at each tenth of the connections. */
  readonly memory: readonly number[];
}

const IN_FLIGHT = 64;
const WORKERS = 4;
const KILL_WITHIN_MS = 20;
const IDLE_CONNECTION_MS = 1_500;
const AT_REST_MS = 20_000;

/** Runs it. */
export async function runChaos(
  { connections, seed, killEvery = Math.min(1_500, connections / 10), log }: ChaosOptions,
): Promise<ChaosReport> {
  const next = random(seed);
  const before = await warmUp();
  await using pool = startPool();
  await pool.ready;
  using listener = listen({ hostname: "127.0.0.1", port: 0 });

  const killed = new Set<number>();
  const kill = () => {
    const alive = pool.statistics.workers.filter(({ state, processId }) => state === "ready" && !killed.has(processId));
    const victim = alive[Math.floor(next() * alive.length)];
    if (victim === undefined) return;
    killed.add(victim.processId);
    Deno.kill(victim.processId, "SIGKILL");
    log?.(
      `${accepted} accepted, ${owners.size} taken: killed worker ${victim.index} with ${victim.held} connections`,
    );
  };

  const owners = new Map<string, number>();
  const uses = new Map<number, number>();
  const dispatching = new Set<Promise<void>>();
  const memory: number[] = [];
  let accepted = 0;
  let killAt = killEvery * (0.5 + next());
  const accepting = (async () => {
    for await (const socket of listener) {
      const { port } = socket.remoteAddr;
      const use = (uses.get(port) ?? 0) + 1;
      uses.set(port, use);
      const done = dispatch(pool, socket, accepted++).then((processId) => {
        owners.set(`${port}#${use}`, processId);
        if (owners.size < killAt) return;
        killAt += killEvery * (0.5 + next());
        // At no step of a hand-off more than at another.
        setTimeout(kill, next() * KILL_WITHIN_MS);
      });
      dispatching.add(done);
      done.finally(() => dispatching.delete(done));
      if (accepted % Math.ceil(connections / 10) === 0) memory.push(Math.round(Deno.memoryUsage().rss / 2 ** 20));
    }
  })();

  const began = performance.now();
  const client = await runClient(listener.addr.port, connections);
  const seconds = (performance.now() - began) / 1000;
  await Promise.all(dispatching);
  listener.close();
  await accepting;
  await pool.close();
  const after = await descriptorsAtRest(before);

  const { returned, timeToTake } = pool.statistics;
  const died = client.dropped.filter((key) => killed.has(owners.get(key) ?? 0));
  return {
    connections,
    answered: client.answered,
    diedWithWorker: died.length,
    lost: client.dropped.filter((key) => !died.includes(key)),
    wrong: client.wrong,
    kills: killed.size,
    returned,
    seconds,
    timeToTake,
    descriptors: [before, after],
    memory,
  };
}

/** Dispatches until somebody has it; returns who. */
async function dispatch(pool: WorkerPool, socket: Socket, number: number): Promise<number> {
  for (;;) {
    try {
      return (await pool.dispatch(socket, { data: number })).worker.processId;
    } catch (error) {
      if (!(error instanceof HandoffError)) throw error;
    }
  }
}

function startPool(): WorkerPool {
  return new WorkerPool({
    script: new URL("worker.ts", import.meta.url),
    denoFlags: ["--no-check", "--cached-only"],
    args: ["20"],
    size: WORKERS,
    restartDelay: 50,
    maxFailures: 1_000,
    attempts: 20,
  });
}

/** Does all of it once, without harm; returns how many descriptors are left when it is over. */
async function warmUp(): Promise<number> {
  await using pool = startPool();
  await pool.ready;
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const client = runClient(listener.addr.port, IN_FLIGHT);
  for (let count = 0; count < IN_FLIGHT; count++) await dispatch(pool, await listener.accept(), count);
  await client;
  await pool.close();
  listener.close();
  return await descriptorsAtRest();
}

/** How many descriptors there are, once there are few enough, or stay too many: idle threads of Windows have some too. */
async function descriptorsAtRest(enough = 0): Promise<number> {
  const deadline = performance.now() + AT_REST_MS;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, IDLE_CONNECTION_MS));
    const count = (await settledDescriptors(Deno.pid))[0]!;
    if (count <= enough || enough === 0 || performance.now() > deadline) return count;
  }
}

async function runClient(port: number, connections: number): Promise<ClientReport> {
  const url = new URL("client.ts", import.meta.url).href;
  const args = ["run", "--quiet", "--no-check", "--cached-only", `--allow-net=127.0.0.1:${port}`, url];
  const { stdout, code } = await new Deno.Command(Deno.execPath(), {
    args: [...args, String(port), String(connections), String(Math.min(connections, IN_FLIGHT))],
    stderr: "inherit",
  }).output();
  if (code !== 0) throw new Error(`The client ended with ${code}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}
