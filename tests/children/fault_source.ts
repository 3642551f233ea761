// Hands one connection after the other to a target of its own, each with a fault at one step, as it is told on stdin.
import { connect, HandoffError, HandoffSource, listen, type Socket } from "@winsock/handoff";
import { freeze, kill, thaw } from "../kit/faults/acts.ts";
import { ControlPump } from "../kit/faults/control_pump.ts";
import { report } from "../kit/faults/events.ts";
import { FaultPoint } from "../kit/faults/fault_point.ts";
import { duplicated, flipped, truncated } from "../kit/faults/garble.ts";
import { own } from "../kit/faults/owner.ts";
import { type Frame, FrameType } from "../kit/faults/protocol.ts";
import { seededRandom } from "../kit/faults/random.ts";
import { StdinTap } from "../kit/faults/stdin_tap.ts";
import type { FaultPlan } from "../kit/faults/steps.ts";
import { RUN } from "../kit/process.ts";

type Bytes = Uint8Array<ArrayBuffer>;
type Command = { do: "cell"; plan: FaultPlan } | { do: "go" | "abort" | "finish" | "end" };

const TARGET = new URL("fault_target.ts", import.meta.url).href;
const PAST_THE_DEADLINE_MS = 300;

/** One hand-off and its fault. */
class Cell {
  readonly #socket: Socket;
  readonly #child: Deno.ChildProcess;
  readonly #point: FaultPoint;
  readonly #tap: StdinTap;
  readonly #abort = new AbortController();
  readonly #random: ReturnType<typeof seededRandom>;
  #pump: ControlPump | undefined;
  #source: HandoffSource | undefined;
  #owning: Promise<void> | undefined;

  constructor(socket: Socket, child: Deno.ChildProcess, plan: FaultPlan) {
    this.#socket = socket;
    this.#child = child;
    this.#point = new FaultPoint(plan);
    this.#random = seededRandom(plan.seed);
    this.#tap = new StdinTap(child.stdin, (frame, bytes) => this.#passFrame(frame, bytes));
    this.#point.watch("source", () => this.#act());
  }

  async go(): Promise<void> {
    const { pid, status } = this.#child;
    const { fault, timeout } = this.#point.plan;
    const { made, pump } = ControlPump.between(
      () => new HandoffSource({ pid, status, stdin: this.#tap.stream } as Deno.ChildProcess, { timeout }),
      (frame, bytes) => this.#passAnswer(frame, bytes),
    );
    this.#source = made;
    this.#pump = pump;
    const deadline = new Promise((resolve) => setTimeout(resolve, timeout + PAST_THE_DEADLINE_MS));
    const outcome = await this.#send(made);
    report({ event: "outcome", outcome });
    // One about to be killed does not begin to read: killed in that moment, Wine keeps the connection open for ever, though
    // no process has a handle of it.
    if (outcome !== "committed" && fault !== "kill source") this.#owning = own(this.#socket.toConn(), "source");
    if (this.#point.step.course === "end") {
      await made.close();
      report({ event: "closed" });
    }
    if (fault !== "freeze target") return;
    await deadline;
    thaw(pid);
    report({ event: "thawed" });
  }

  abort(): void {
    this.#abort.abort(new Error("taken back"));
  }

  /** Ends the channel in the ordinary way, or what the fault has left of it. */
  async finish(): Promise<void> {
    if (this.#point.plan.fault === "freeze target") thaw(this.#child.pid);
    await this.#owning;
    await this.#source?.close();
    report({ event: "finished" });
  }

  async end(): Promise<void> {
    kill(this.#child.pid);
    await this.#child.status;
    this.#pump?.close();
    await this.#tap.close();
    report({ event: "ended" });
  }

  async #send(source: HandoffSource): Promise<string> {
    const { signal } = this.#abort;
    try {
      await source.send(this.#socket, this.#point.step.course === "withdraw" ? { signal } : {});
      return "committed";
    } catch (error) {
      if (error instanceof HandoffError) return error.outcome;
      return error === signal.reason ? "withdrawn" : String(error);
    }
  }

  async #passFrame(frame: Frame, bytes: Bytes): Promise<void> {
    const name = nameOf(frame);
    if (this.#point.garblesNow(name)) {
      await this.#tap.write(this.#garbled(frame, bytes));
      if (this.#point.plan.fault !== "truncate frame") return;
      await this.#tap.close();
      throw new Deno.errors.BrokenPipe("The pipe broke in the middle of a frame");
    }
    const comes = this.#point.comesWith(name);
    // Frozen before it can read the frame: it must have left, and must not have arrived.
    const first = this.#point.plan.fault === "freeze target";
    if (comes && first) this.#act();
    await this.#tap.write(bytes);
    if (comes && !first) this.#act();
  }

  #passAnswer(frame: Frame, bytes: Bytes): void {
    const name = nameOf(frame);
    if (this.#point.garblesNow(name)) {
      this.#pump!.write(this.#garbled(frame, bytes));
      if (this.#point.plan.fault === "truncate frame") this.#pump!.end();
      return;
    }
    // The answer has left the target and has not arrived.
    if (this.#point.comesWith(name)) this.#act();
    this.#pump!.write(bytes);
  }

  #garbled(frame: Frame, bytes: Bytes): Bytes {
    const { fault, region } = this.#point.plan;
    if (fault === "truncate frame") return truncated(bytes, this.#random);
    if (fault === "duplicate frame") return duplicated(bytes);
    return flipped(frame, bytes, region, this.#random);
  }

  #act(): void {
    const { fault } = this.#point.plan;
    if (fault === "kill target") kill(this.#child.pid);
    else if (fault === "kill source") kill(Deno.pid);
    else if (fault === "freeze target") freeze(this.#child.pid);
    else if (fault === "close stdin") this.#tap.close();
    else this.#pump!.close();
  }
}

function nameOf({ type }: Frame): string {
  return Object.entries(FrameType).find(([, value]) => value === type)![0];
}

function spawnTarget(plan: FaultPlan): Deno.ChildProcess {
  // Without `detached` Windows ends it together with this process.
  return new Deno.Command(Deno.execPath(), {
    args: [...RUN, "--allow-all", TARGET, JSON.stringify(plan)],
    stdin: "piped",
    stdout: "inherit",
    stderr: "inherit",
    detached: true,
  }).spawn();
}

// Deno opens two descriptors for signals half a second after its start, unless it has them already.
Deno.addSignalListener("SIGINT", () => {});
const listener = listen({ hostname: "127.0.0.1", port: 0 });
await acceptOnce();
report({ event: "listening", port: listener.addr.port });
let cell: Cell | undefined;
let text = "";
for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (text + chunk).split("\n");
  text = lines.pop()!;
  for (const line of lines) await obey(JSON.parse(line));
}
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
    const child = spawnTarget(command.plan);
    cell = new Cell(await listener.accept(), child, command.plan);
    report({ event: "spawned", target: child.pid });
  } else if (command.do === "go") cell!.go();
  else if (command.do === "abort") cell!.abort();
  else if (command.do === "finish") cell!.finish();
  else await cell!.end();
}
