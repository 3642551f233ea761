/**
 * Sources and targets, all of which are killed and stopped at random, and hand-offs that are withdrawn at random: what
 * becomes of every connection.
 *
 * @module
 */
import { openStreams } from "../kit/descriptors.ts";
import { freeze, isAlive, kill, thaw } from "../kit/faults/acts.ts";
import { Family } from "../kit/faults/family.ts";
import { RUN, until, within } from "../kit/process.ts";
import { random } from "../kit/random.ts";
import { isWine } from "../kit/wine.ts";

/** What sources and targets say, a line of JSON each. */
export type StormEvent =
  | { readonly listens: number }
  | { readonly target: number }
  | { readonly ended: number }
  | { readonly withThreads: number }
  | { readonly id: number; readonly taken: number; readonly thread?: boolean }
  | { readonly id: number; readonly given: number }
  | { readonly id: number; readonly returned: string }
  | { readonly waitsUntil: string }
  | { readonly rests: number }
  | { readonly failed: string };

/** What comes with a socket. */
export interface StormData {
  readonly id: number;
  /** The socket is not the connection: it brings a blob of it, for a thread, and takes answers back. */
  readonly carrier?: boolean;
}

/** What a target says over a carrier. */
export const StormAnswer = { ready: 2, opened: 1 } as const;

/** How much of it. */
export interface StormOptions {
  connections: number;
  seed: number;
  /** How many processes are killed or stopped. */
  blows: number;
  /**
   * How many threads one of the targets has. They open connections by blobs, half of them by another copy of the library.
   * Defaults to none.
   */
  threads?: number;
  log?: (line: string) => void;
}

/** What became of the connections. */
export interface StormReport {
  readonly connections: number;
  readonly answered: number;
  /** They ended with the process that owned them. */
  readonly diedWithOwner: number;
  /** They ended, and no process that owned them was killed: there must be none. */
  readonly lost: readonly string[];
  /** Taken twice, or answered twice, or by what is not their own: there must be none. */
  readonly wrong: readonly string[];
  /** Neither answered nor ended in time: there must be none. */
  readonly hung: readonly string[];
  /** Processes that were killed, and stopped, of each side. */
  readonly blows: Readonly<Record<Blow, number>>;
  /** Hand-offs that came back, by outcome. */
  readonly returned: Readonly<Record<string, number>>;
  readonly seconds: number;
  /** Connections that threads opened. */
  readonly byThreads: number;
  /** Processes that were left over: there must be none. */
  readonly processes: readonly number[];
  /** Files in memory that the source that was never killed has, before and after. */
  readonly memoryFiles: readonly [before: number, after: number];
  /** Pipes and sockets of the source that was never killed, before and after. */
  readonly descriptors: readonly [before: number, after: number];
  /** Its resident memory in MiB, before and after. */
  readonly memory: readonly [before: number, after: number];
}

const BLOWS = ["kill target", "kill source", "freeze target", "freeze source"] as const;

/** What is done to a process. */
export type Blow = typeof BLOWS[number];

const SOURCES = 3;
const IN_FLIGHT = 48;
const WARM_UP_CONNECTIONS = 200;
const MAX_FREEZE_MS = 2_500;
const HUNG_AFTER_MS = 60_000;
/** A target that is killed in the last moment is replaced, and must be ready, before its source can rest. */
const REST_MS = 60_000;
const END_MS = 20_000;
const SCRIPT = new URL("storm_source.ts", import.meta.url).href;

/** The lines of a stream; the last one may have been cut by the end of its writer. */
export async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, void> {
  let text = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (text + chunk).split("\n");
    text = lines.pop()!;
    yield* lines;
  }
}

/** What all sources and targets have said. */
class Ledger {
  readonly owners = new Map<number, Set<number>>();
  readonly killed = new Set<number>();
  readonly returned: Record<string, number> = {};
  readonly failures: string[] = [];
  byThreads = 0;

  note(event: StormEvent): void {
    if ("failed" in event) this.failures.push(event.failed);
    else if ("ended" in event) this.killed.add(event.ended);
    else if ("returned" in event) this.returned[event.returned] = (this.returned[event.returned] ?? 0) + 1;
    else if ("taken" in event) {
      this.#own(event.id, event.taken);
      if (event.thread === true) this.byThreads++;
    } else if ("given" in event) this.#own(event.id, event.given);
  }

  #own(id: number, processId: number): void {
    const owners = this.owners.get(id);
    if (owners === undefined) this.owners.set(id, new Set([processId]));
    else owners.add(processId);
  }
}

/** A process of `storm_source.ts` and its targets. */
class Source {
  readonly pid: number;
  readonly targets = new Set<number>();
  port = 0;
  readonly #child: Deno.ChildProcess;
  readonly #family: Family;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #read: Promise<void>;
  #rests: PromiseWithResolvers<number> | undefined;
  /** What it has said last that it waits for. */
  #waitsUntil = "it hears of it";
  #killed = false;

  /** Resolves when its target with threads is ready. */
  withThreads = Promise.withResolvers<void>();
  /** All that it has ever started. */
  readonly all = new Set<number>();

  constructor(ledger: Ledger, args: readonly string[] = []) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [...RUN, "--allow-all", SCRIPT, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.pid = this.#child.pid;
    this.#family = new Family(this.pid);
    this.#stdin = this.#child.stdin.getWriter();
    this.#stdin.closed.catch(() => {});
    this.#read = this.#readEvents(ledger);
  }

  tell(command: "go" | "rest"): void {
    this.#stdin.write(new TextEncoder().encode(`${command}\n`)).catch(() => {});
  }

  async start(): Promise<void> {
    await until(() => this.port !== 0, "a source listens");
    this.tell("go");
  }

  /** Has it close all its targets, and waits until it has done so. */
  async rest(): Promise<{ descriptors: number; memory: number; memoryFiles: number }> {
    this.#rests = Promise.withResolvers();
    this.tell("rest");
    const memory = await within(
      REST_MS,
      this.#rests.promise,
      () => `source ${this.pid} rests: it waits until ${this.#waitsUntil}; ${this.#describeTargets()}`,
    );
    // What is closed on other threads takes a moment.
    let descriptors = openStreams(this.pid).length;
    for (let round = 0; round < 10; round++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      descriptors = Math.min(descriptors, openStreams(this.pid).length);
    }
    return { descriptors, memory, memoryFiles: countMemoryFiles(this.pid) };
  }

  /** Ends it at once, and with it what it was about to start. */
  kill(): void {
    if (this.#killed) return;
    this.#killed = true;
    this.#family.kill();
  }

  /** Waits until all is read that it and its targets have said; they have been killed, or end with it. */
  async ended(): Promise<void> {
    await within(END_MS, this.#child.status, () => `source ${this.pid} ends, which was killed`);
    // Not waited for: the last command may never leave.
    this.#stdin.abort().catch(() => {});
    await within(
      END_MS,
      this.#read,
      () => `the output of source ${this.pid} ends, which was killed: somebody has it open; ${this.#describeTargets()}`,
    );
  }

  #describeTargets(): string {
    const describe = (pid: number) => `${pid} ${isAlive(pid) ? "lives" : "has ended"}`;
    return `its targets: ${[...this.targets].map(describe).join(", ") || "none"}`;
  }

  async #readEvents(ledger: Ledger): Promise<void> {
    for await (const line of readLines(this.#child.stdout)) {
      const event: StormEvent = JSON.parse(line);
      ledger.note(event);
      if ("listens" in event) this.port = event.listens;
      if ("target" in event) {
        this.targets.add(event.target);
        this.all.add(event.target);
      }
      if ("withThreads" in event) this.withThreads.resolve();
      if ("waitsUntil" in event) this.#waitsUntil = event.waitsUntil;
      if ("rests" in event) {
        this.targets.clear();
        this.#rests?.resolve(event.rests);
      }
    }
  }
}

/** Whether a process is one of these, and not another that has got the id since. */
function isOurs(pid: number): boolean {
  try {
    return Deno.build.os !== "linux" || Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("/storm_");
  } catch {
    return false;
  }
}

/** Linux: the tables of decisions that a process has, as mappings and as descriptors. */
function countMemoryFiles(pid: number): number {
  if (Deno.build.os !== "linux") return 0;
  const mapped = Deno.readTextFileSync(`/proc/${pid}/maps`).split("memfd:").length - 1;
  return mapped + openStreams(pid).filter((line) => line.includes("memfd:")).length;
}

interface Ended {
  readonly id: number;
  readonly source: Source;
  readonly answer: string;
}

/** Runs it. */
export async function runStorm(options: StormOptions): Promise<StormReport> {
  if (options.threads === undefined) return await run(options, []);
  const directory = await Deno.makeTempDir();
  try {
    // Modules of another path are modules of their own.
    const copy = new URL("copy/", toUrl(directory));
    await copyLibrary(copy);
    return await run(options, [String(options.threads), new URL("mod.ts", copy).href]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function toUrl(directory: string): URL {
  return new URL(`file://${Deno.build.os === "windows" ? `/${directory.replaceAll("\\", "/")}` : directory}/`);
}

/** Copies what `mod.ts` may import. Symbolic links need rights on Windows. */
async function copyLibrary(to: URL): Promise<void> {
  const root = new URL("../../", import.meta.url);
  await Deno.mkdir(to);
  for (
    const name of [
      "mod.ts",
      "deno.json",
      "deno.lock",
      "internal",
      "structs",
      "ffi",
      "spi",
      "sockets",
      "handoff",
      "links",
    ]
  ) {
    await copyTree(new URL(name, root), new URL(name, to));
  }
}

async function copyTree(from: URL, to: URL): Promise<void> {
  if ((await Deno.stat(from)).isFile) return await Deno.copyFile(from, to);
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await copyTree(new URL(`${from}/${name}`), new URL(`${to}/${name}`));
}

async function run({ connections, seed, blows, log }: StormOptions, args: readonly string[]): Promise<StormReport> {
  const next = random(seed);
  const ledger = new Ledger();
  // The one that is never killed has the target with the threads.
  const sources = Array.from({ length: SOURCES }, (_, index) => new Source(ledger, index === 0 ? args : []));
  const [survivor] = sources as [Source];
  const all = [...sources];
  const counts: Record<Blow, number> = { "kill target": 0, "kill source": 0, "freeze target": 0, "freeze source": 0 };
  const thawing = new Set<Promise<void>>();
  const answers: Ended[] = [];
  const hung: string[] = [];
  const onWine = Deno.build.os === "windows" && isWine();
  let begun = 0;

  const strike = async () => {
    const blow = BLOWS[Math.floor(next() * BLOWS.length)]!;
    const index = Math.floor(next() * sources.length);
    const source = sources[index]!;
    const alive = [...source.targets].filter((pid) => !ledger.killed.has(pid));
    const victim = blow.endsWith("source") ? source.pid : alive[Math.floor(next() * alive.length)];
    if (victim === undefined || blow === "kill source" && source === survivor) return;
    counts[blow]++;
    log?.(`${answers.length} ended: ${blow} ${victim}`);
    if (blow.startsWith("freeze")) {
      freeze(victim);
      const rest = new Promise<void>((resolve) => setTimeout(resolve, next() * MAX_FREEZE_MS));
      const thawed = rest.then(() => thaw(victim)).finally(() => thawing.delete(thawed));
      thawing.add(thawed);
      return;
    }
    ledger.killed.add(victim);
    // On Windows children end with their parent.
    if (blow === "kill source" && Deno.build.os === "windows") { for (const pid of alive) ledger.killed.add(pid); }
    if (blow === "kill target") return kill(victim);
    const fresh = new Source(ledger);
    all.push(fresh);
    sources[index] = fresh;
    source.kill();
    await fresh.start();
  };

  const one = async (limit: number) => {
    // What hangs takes its time: one is enough.
    while (begun < limit && hung.length === 0) {
      const id = begun++;
      const source = sources[Math.floor(next() * sources.length)]!;
      if (source.port === 0) await until(() => source.port !== 0, "a source listens");
      const late = new AbortController();
      const timer = setTimeout(() => {
        const owners = [...ledger.owners.get(id) ?? []];
        const line = `${id}, to source ${source.pid}, owned by ${owners}`;
        // Wine's server sometimes keeps a socket that no process has any more: its last owner was killed.
        if (onWine && owners.length > 0 && owners.every((pid) => ledger.killed.has(pid))) {
          log?.(`${line}: kept by Wine`);
        } else hung.push(line);
        late.abort();
      }, HUNG_AFTER_MS);
      answers.push({ id, source, answer: await exchange(source.port, id, late.signal) });
      clearTimeout(timer);
    }
  };
  const exchangeAll = (limit: number) => Promise.all(Array.from({ length: IN_FLIGHT }, () => one(limit)));

  const strikeAll = async () => {
    let struck = 0;
    while (struck < blows && begun < connections && hung.length === 0) {
      // By what has ended, not by the clock: on a slow machine nothing would.
      const due = WARM_UP_CONNECTIONS + (struck + next()) * (connections - WARM_UP_CONNECTIONS) / (blows + 1);
      if (answers.length >= due) {
        struck++;
        await strike();
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };

  const runAll = async () => {
    await Promise.all(sources.map((source) => source.start()));
    await exchangeAll(WARM_UP_CONNECTIONS);
    const before = await survivor.rest();
    survivor.withThreads = Promise.withResolvers();
    survivor.tell("go");
    if (args.length > 0) await within(REST_MS, survivor.withThreads.promise, () => "a target with threads is ready");
    await Promise.all([exchangeAll(connections), strikeAll()]);
    await Promise.all(thawing);
    return [before, await survivor.rest()] as const;
  };

  const began = performance.now();
  const [before, after] = await runAll().finally(() => {
    begun = connections;
    for (const source of all) source.kill();
  });
  await Promise.all(all.map((source) => source.ended()));
  const processes = all.flatMap((source) => [source.pid, ...source.all]).filter((pid) => isAlive(pid) && isOurs(pid));

  return { ...judge(answers, ledger), connections, hung, blows: counts, returned: ledger.returned, ...figures() };

  function figures() {
    return {
      seconds: (performance.now() - began) / 1000,
      byThreads: ledger.byThreads,
      processes,
      memoryFiles: [before.memoryFiles, after.memoryFiles] as const,
      descriptors: [before.descriptors, after.descriptors] as const,
      memory: [before.memory, after.memory] as const,
    };
  }
}

function judge(
  answers: readonly Ended[],
  ledger: Ledger,
): Pick<StormReport, "answered" | "diedWithOwner" | "lost" | "wrong"> {
  const lost: string[] = [];
  const wrong: string[] = [...ledger.failures];
  let answered = 0;
  let diedWithOwner = 0;
  for (const { id, source, answer } of answers) {
    const owners = [...ledger.owners.get(id) ?? []];
    if (owners.length > 1) wrong.push(`${id} was taken by ${owners}`);
    if (answer !== "") {
      if (answer === `${pad(id)} ${owners[0]}\n`) answered++;
      else wrong.push(`${id}, owned by ${owners}: ${JSON.stringify(answer)}`);
    } else if (ledger.killed.has(owners[0] ?? source.pid)) diedWithOwner++;
    else lost.push(`${id}, owned by ${owners[0] ?? `source ${source.pid}`}`);
  }
  return { answered, diedWithOwner, lost, wrong };
}

/** What comes back until the owner has answered once, and whatever else is said before it has seen this end. */
async function exchange(port: number, id: number, late: AbortSignal): Promise<string> {
  let answer = "";
  let conn: Deno.TcpConn | undefined;
  const close = () => {
    try {
      conn?.close();
    } catch {
      // it is closed
    }
  };
  try {
    conn = await Deno.connect({ hostname: "127.0.0.1", port, signal: late });
    late.addEventListener("abort", close);
    await conn.write(new TextEncoder().encode(pad(id)));
    const buffer = new Uint8Array(128);
    for (let length = await conn.read(buffer); length !== null; length = await conn.read(buffer)) {
      answer += new TextDecoder().decode(buffer.subarray(0, length));
      if (answer.endsWith("\n")) conn.closeWrite().catch(() => {});
    }
  } catch {
    // it was refused, or reset, or is late
  }
  close();
  return answer.endsWith("\n") ? answer : "";
}

function pad(id: number): string {
  return String(id).padStart(8, "0");
}
