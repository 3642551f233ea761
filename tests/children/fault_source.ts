// Hands one connection after the other to a target of its own, each with a fault at one step, as it is told on stdin.
import { connect, HandoffError, HandoffSource, listen, type SharedListener, type Socket } from "@winsock/handoff";
import { spawnWorkerCommand } from "../../handoff/spawn.ts";
import { freeze, kill, thaw } from "../kit/faults/acts.ts";
import { PAST_THE_DEADLINE_MS } from "../kit/faults/cell.ts";
import { report } from "../kit/faults/events.ts";
import { FaultPoint } from "../kit/faults/fault_point.ts";
import { garbled } from "../kit/faults/garble.ts";
import { own } from "../kit/faults/owner.ts";
import { type Frame, FrameType } from "../kit/faults/protocol.ts";
import { seededRandom } from "../kit/faults/random.ts";
import type { Command } from "../kit/faults/source_process.ts";
import { type FaultPlan, findStep, isFrameFault, isOfListener } from "../kit/faults/steps.ts";
import { TappedChannel } from "../kit/faults/tapped_channel.ts";
import { RUN } from "../kit/process.ts";
import { TextLines } from "../kit/text_lines.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** On Windows another thread writes to the pipe, when the write is over for this one. */
const WRITES_LATER = Deno.build.os === "windows";
const WRITTEN_MS = 100;

const TARGET = new URL("fault_target.ts", import.meta.url).href;

/** What is done over a channel, until the fault comes and after it. */
interface Work {
  /** The port to connect to, if it is not that of this process. */
  readonly port: number;
  /** Returns the outcome as the caller is told. */
  run(source: HandoffSource, point: FaultPoint): Promise<string>;
  abort(): void;
  operate(): void;
  /** Ends when what this process owns before the channel ends is closed. */
  finish(): Promise<void>;
  /** Ends when nothing is left of it. */
  end(): Promise<void>;
}

/** Hands a connection off. */
class HandingOff implements Work {
  readonly port = 0;
  readonly #socket: Socket;
  readonly #abort = new AbortController();
  #owning: Promise<void> | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  async run(source: HandoffSource, { step, plan: { fault } }: FaultPoint): Promise<string> {
    const { signal } = this.#abort;
    try {
      await source.send(this.#socket, step.course === "withdraw" ? { signal } : {});
      return "handed off";
    } catch (error) {
      // One about to be killed does not begin to read: killed in that moment, Wine keeps the connection open for ever, though
      // no process has a handle of it.
      const dies = fault === "kill source" || fault === "kill both";
      if (!dies) this.#owning = own(this.#socket.toConn(), "source");
      return error === signal.reason ? "withdrawn" : outcomeOf(error);
    }
  }

  abort(): void {
    this.#abort.abort(new Error("withdrawn"));
  }

  operate(): void {}

  async finish(): Promise<void> {
    await this.#owning;
  }

  async end(): Promise<void> {}
}

/** Shares a listener, and accepts on it when the target does not. */
class Sharing implements Work {
  readonly #listener = listen({ hostname: "127.0.0.1", port: 0 });
  readonly #told = Promise.withResolvers<void>();
  #share: SharedListener | undefined;
  #owning: Promise<void> | undefined;

  get port(): number {
    return this.#listener.addr.port;
  }

  async run(source: HandoffSource, point: FaultPoint): Promise<string> {
    try {
      const share = this.#share = await source.shareListener(this.#listener);
      // The first one is asked for by sharing it.
      await share.resume();
      const outcome = await this.#operateOn(share, point);
      if (outcome === "paused" || outcome === "stopped") this.#accept();
      return outcome;
    } catch (error) {
      return outcomeOf(error);
    } finally {
      // Until then it may still accept.
      Promise.resolve(this.#share?.stopped).then(() => this.#accept());
    }
  }

  abort(): void {}

  operate(): void {
    this.#told.resolve();
  }

  async finish(): Promise<void> {}

  async end(): Promise<void> {
    this.#listener.close();
    await this.#owning;
  }

  #accept(): void {
    this.#owning ??= this.#listener.accept().then((socket) => own(socket.toConn(), "source"), () => {});
  }

  async #operateOn(share: SharedListener, point: FaultPoint): Promise<string> {
    const { course } = point.step;
    if (course === "share") return "accepts";
    if (course === "resume") await share.pause();
    report({ event: "sharing" });
    await this.#told.promise;
    point.arm();
    if (course === "stop") return await share.stop(), "stopped";
    if (course === "resume") return await share.resume(), "resumed";
    return await share.pause(), "paused";
  }
}

/** One course of events and its fault. */
class Cell {
  readonly #work: Work;
  readonly #child: Deno.ChildProcess;
  readonly #gate: string;
  readonly #point: FaultPoint;
  readonly #random: ReturnType<typeof seededRandom>;
  #channel!: TappedChannel;
  #source: HandoffSource | undefined;

  private constructor(work: Work, child: Deno.ChildProcess, gate: string, plan: FaultPlan) {
    this.#work = work;
    this.#child = child;
    this.#gate = gate;
    this.#point = new FaultPoint(plan);
    this.#random = seededRandom(plan.seed);
    this.#point.watch("source", () => this.#act());
  }

  static async start(work: Work, plan: FaultPlan): Promise<Cell> {
    const gate = Deno.makeTempFileSync({ prefix: "handoff-fault-" });
    // Two of three targets inherit their channel, where the system lets them; the others get it over a socket.
    const inherits = Deno.build.os !== "windows" && plan.seed % 3 !== 0;
    const child = await spawnTarget(plan, gate, inherits);
    report({ event: "spawned", target: child.pid, inherits, gate, port: work.port });
    return new Cell(work, child, gate, plan);
  }

  async go(): Promise<void> {
    const { timeout, fault } = this.#point.plan;
    this.#channel = new TappedChannel(this.#child, {
      frame: (frame, bytes) => this.#passFrame(frame, bytes),
      answer: (frame, bytes) => this.#passAnswer(frame, bytes),
    });
    const source = this.#source = new HandoffSource(this.#channel.child, {
      startTimeout: timeout,
      sendTimeout: timeout,
    });
    const deadline = new Promise((resolve) => setTimeout(resolve, timeout + PAST_THE_DEADLINE_MS));
    report({ event: "outcome", outcome: await this.#work.run(source, this.#point) });
    if (this.#point.step.course === "end") {
      await source.close();
      report({ event: "closed" });
    }
    if (fault !== "freeze target") return;
    await deadline;
    thaw(this.#child.pid);
    report({ event: "thawed" });
  }

  abort(): void {
    this.#work.abort();
  }

  operate(): void {
    this.#work.operate();
  }

  /** Does what the target waits for at its step. */
  async act(): Promise<void> {
    await this.#act();
    Deno.removeSync(this.#gate);
  }

  /** Ends the channel in the ordinary way, or what the fault has left of it. */
  async finish(): Promise<void> {
    if (this.#point.plan.fault === "freeze target") thaw(this.#child.pid);
    await this.#work.finish();
    await this.#source?.close();
    report({ event: "finished" });
  }

  /** Ends the target. */
  async end(): Promise<void> {
    kill(this.#child.pid);
    await this.#child.status;
    await this.#channel.dispose();
    report({ event: "ended" });
  }

  /** Closes what this process has besides the channel. */
  async leave(): Promise<void> {
    await this.#work.end();
    report({ event: "over" });
  }

  async #passFrame(frame: Frame, bytes: Bytes): Promise<void> {
    const { fault } = this.#point.plan;
    const isHello = frame.type === FrameType.HELLO;
    const write = (bytes: Bytes) => isHello ? this.#channel.writeStdin(bytes) : this.#channel.writeFrames(bytes);
    if (isFrameFault(fault) && this.#point.garblesNow(nameOf(frame))) {
      await write(garbled(frame, bytes, fault, this.#random));
      if (fault !== "truncate frame") return;
      await (isHello ? this.#channel.endStdin() : this.#channel.endFrames());
      throw new Deno.errors.BrokenPipe("The way of frames broke in the middle of one");
    }
    if (!this.#point.comesWith(nameOf(frame))) return await write(bytes);
    // It has left, and must not have arrived when the fault comes; nor may the target answer before that.
    const held = fault.endsWith("target") || fault === "kill both" || WRITES_LATER;
    if (held) freeze(this.#child.pid);
    await write(bytes);
    if (WRITES_LATER) await new Promise((resolve) => setTimeout(resolve, WRITTEN_MS));
    if (held && !fault.endsWith("target")) thaw(this.#child.pid);
    if (fault !== "freeze target") await this.#act();
  }

  #passAnswer(frame: Frame, bytes: Bytes): void {
    const { fault } = this.#point.plan;
    if (isFrameFault(fault) && this.#point.garblesNow(nameOf(frame))) {
      this.#channel.deliver(garbled(frame, bytes, fault, this.#random));
      if (fault === "truncate frame") this.#channel.endAnswers();
      return;
    }
    // The answer has left the target and has not arrived.
    if (this.#point.comesWith(nameOf(frame))) this.#act();
    this.#channel.deliver(bytes);
  }

  #act(): Promise<void> | undefined {
    const { fault } = this.#point.plan;
    if (fault === "kill target" || fault === "kill both") kill(this.#child.pid);
    if (fault === "kill source" || fault === "kill both") kill(Deno.pid);
    if (fault === "freeze target") freeze(this.#child.pid);
    if (fault === "freeze source") freeze(Deno.pid);
    if (fault === "close answers") this.#channel.endAnswers();
    return fault === "close frames" ? this.#channel.endFrames() : undefined;
  }
}

function outcomeOf(error: unknown): string {
  return error instanceof HandoffError ? error.outcome : String(error);
}

function nameOf({ type }: Frame): string {
  return Object.entries(FrameType).find(([, value]) => value === type)![0];
}

async function spawnTarget(plan: FaultPlan, gate: string, inherits: boolean): Promise<Deno.ChildProcess> {
  const args = [...RUN, "--allow-all", TARGET, JSON.stringify(plan), gate];
  // Without `detached` Windows ends it together with this process.
  if (inherits) {
    return await spawnWorkerCommand({ command: Deno.execPath(), args }, { output: "inherit", detached: true });
  }
  const options = { args, stdin: "piped", stdout: "inherit", stderr: "inherit", detached: true } as const;
  return new Deno.Command(Deno.execPath(), options).spawn();
}

// Deno opens two descriptors for signals half a second after its start, unless it has them already.
Deno.addSignalListener("SIGINT", () => {});
const listener = listen({ hostname: "127.0.0.1", port: 0 });
await acceptOnce();
report({ event: "listening", port: listener.addr.port });
let cell: Cell | undefined;
for await (const line of Deno.stdin.readable.pipeThrough(new TextLines())) await obey(JSON.parse(line));
Deno.exit();

/** Accepts a connection of its own, and has to wait for it: what the listener needs for that it keeps. */
async function acceptOnce(): Promise<void> {
  const accepting = listener.accept();
  // Connected at once it would not have to wait.
  await new Promise((resolve) => setTimeout(resolve, 20));
  using _client = await connect({ port: listener.addr.port });
  (await accepting).close();
}

async function obey(command: Command): Promise<void> {
  if (command.do === "cell") {
    const { plan } = command;
    const work = isOfListener(findStep(plan.step)) ? new Sharing() : new HandingOff(await listener.accept());
    cell = await Cell.start(work, plan);
  } else if (command.do === "go") cell!.go();
  else if (command.do === "abort") cell!.abort();
  else if (command.do === "operate") cell!.operate();
  else if (command.do === "leave") cell!.leave();
  else if (command.do === "act") await cell!.act();
  else if (command.do === "finish") cell!.finish();
  else await cell!.end();
}
