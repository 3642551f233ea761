// Hands a connection to a target that hands it back, with a fault at one step of the way back: PLAN. It has done so once
// without a fault before it says where it listens.
import { connect, HandoffSource, listen, type Socket, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";
import { freeze, kill } from "../kit/faults/acts.ts";
import { type BackPlan, findBackStep } from "../kit/faults/back.ts";
import { report } from "../kit/faults/events.ts";
import { garbled } from "../kit/faults/garble.ts";
import { own } from "../kit/faults/owner.ts";
import { type Frame, FrameType, type HandoffStep } from "../kit/faults/protocol.ts";
import { seededRandom } from "../kit/faults/random.ts";
import { isFrameFault } from "../kit/faults/steps.ts";
import { TappedChannel } from "../kit/faults/tapped_channel.ts";
import { readText } from "../kit/connections.ts";
import { RUN } from "../kit/process.ts";
import { TextLines } from "../kit/text_lines.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const TARGET = new URL("back_fault_target.ts", import.meta.url).href;

class Cell {
  readonly child: Deno.ChildProcess;
  readonly #plan: BackPlan;
  readonly #channel: TappedChannel;
  readonly #source: HandoffSource;
  readonly #random: ReturnType<typeof seededRandom>;
  readonly #quiet: boolean;
  #come = false;
  #frozen = false;

  constructor(plan: BackPlan, quiet = false) {
    this.#plan = plan;
    this.#quiet = quiet;
    this.#random = seededRandom(plan.seed);
    const args = [...RUN, "--allow-all", TARGET, JSON.stringify(plan)];
    const output = quiet ? "null" : "inherit";
    const options = { args, stdin: "piped", stdout: output, stderr: "inherit", detached: true } as const;
    this.child = new Deno.Command(Deno.execPath(), options).spawn();
    this.#channel = new TappedChannel(this.child, {
      frame: (frame, bytes) => this.#passFrame(frame, bytes),
      answer: (frame, bytes) => this.#passAnswer(frame, bytes),
    });
    this.#source = new HandoffSource(this.#channel.child, { sendTimeout: 15_000 });
    const { side, on, withdraws } = findBackStep(plan.step);
    diagnostics.subscribe(TRACE_CHANNEL, (message) => {
      const { step, peerProcessId } = message as HandoffStep;
      if (peerProcessId !== this.child.pid) return;
      if (step === "taken" && !quiet) report({ event: "taken" });
      // The target does not know by itself when its OFFER was read.
      if (step === "opened" && withdraws) this.#source.postMessage("withdraw").catch(() => {});
      if (side === "source" && "trace" in on && step === on.trace && this.#comes()) this.#act();
    });
    // Whether the source's program asks for the connection decides whether it is taken, or waits to be withdrawn.
    if (!withdraws) this.#takeBack();
  }

  async send(socket: Socket): Promise<void> {
    await this.#source.send(socket);
  }

  async finish(): Promise<void> {
    await this.#source.close();
    if (!this.#quiet) report({ event: "finished" });
  }

  async end(): Promise<void> {
    kill(this.child.pid);
    await this.child.status;
    await this.#channel.dispose();
  }

  async #takeBack(): Promise<void> {
    const { fault } = this.#plan;
    for await (const { socket } of this.#source.messages) {
      if (fault !== "kill source" && fault !== "kill both") own((socket as Socket).toConn(), "source");
    }
  }

  #comes(): boolean {
    const { fault } = this.#plan;
    if (this.#come || fault === "none") return false;
    this.#come = true;
    report({ event: "fault" });
    return true;
  }

  #isOn({ type }: Frame): boolean {
    const { on } = findBackStep(this.#plan.step);
    return "frame" in on && FrameType[on.frame] === type;
  }

  async #passFrame(frame: Frame, bytes: Bytes): Promise<void> {
    const { fault } = this.#plan;
    if (frame.type === FrameType.HELLO) return await this.#channel.writeStdin(bytes);
    // What this source offers itself is not of the way back.
    const back = frame.type === FrameType.TAKEN || frame.type === FrameType.REJECT;
    if (!back || !this.#isOn(frame) || !this.#comes()) return await this.#channel.writeFrames(bytes);
    if (isFrameFault(fault as "none")) {
      await this.#channel.writeFrames(garbled(frame, bytes, fault as "flip head", this.#random));
      if (fault !== "truncate frame") return;
      await this.#channel.endFrames();
      throw new Deno.errors.BrokenPipe("The way of frames broke in the middle of one");
    }
    // It has left and must not be read before the fault comes.
    const held = fault.endsWith("target") || fault === "kill both";
    if (held) this.#freeze();
    await this.#channel.writeFrames(bytes);
    await this.#act();
  }

  #passAnswer(frame: Frame, bytes: Bytes): void {
    const { fault } = this.#plan;
    // Answers of the target to the source's own offers, TAKEN and REJECT, are not of the way back.
    const back = frame.type === FrameType.OFFER || frame.type === FrameType.WITHDRAW;
    if (!back || !this.#isOn(frame) || !this.#comes()) return this.#channel.deliver(bytes);
    if (isFrameFault(fault as "none")) {
      this.#channel.deliver(garbled(frame, bytes, fault as "flip head", this.#random));
      if (fault === "truncate frame") this.#channel.endAnswers();
      return;
    }
    this.#act();
    this.#channel.deliver(bytes);
  }

  #freeze(): void {
    if (!this.#frozen) freeze(this.child.pid);
    this.#frozen = true;
  }

  #act(): Promise<void> | undefined {
    const { fault } = this.#plan;
    if (fault === "kill target" || fault === "kill both") kill(this.child.pid);
    if (fault === "kill source" || fault === "kill both") kill(Deno.pid);
    if (fault === "freeze target") this.#freeze();
    if (fault === "freeze source") freeze(Deno.pid);
    if (fault === "close answers") this.#channel.endAnswers();
    return fault === "close frames" ? this.#channel.endFrames() : undefined;
  }
}

Deno.addSignalListener("SIGINT", () => {});
const plan: BackPlan = JSON.parse(Deno.args[0]!);
const listener = listen({ hostname: "127.0.0.1", port: 0 });
await warmUp();
report({ event: "listening", port: listener.addr.port });
let cell: Cell | undefined;
for await (const line of Deno.stdin.readable.pipeThrough(new TextLines())) await obey(line);
Deno.exit();

async function obey(line: string): Promise<void> {
  if (line === "start") {
    cell = new Cell(plan);
    report({ event: "spawned", target: cell.child.pid, inherits: false, gate: "", port: listener.addr.port });
  } else if (line === "go") {
    await cell!.send(await listener.accept());
  } else if (line === "finish") cell!.finish();
  else {
    await cell!.end();
    report({ event: "ended" });
  }
}

/** Opens all that a process keeps after its first hand-off there and back. */
async function warmUp(): Promise<void> {
  const accepting = listener.accept();
  await new Promise((resolve) => setTimeout(resolve, 20));
  using client = (await connect({ port: listener.addr.port })).toConn();
  const warm = new Cell({ step: "taken", fault: "none", seed: 0 }, true);
  await warm.send(await accepting);
  await readText(client, "source\n".length);
  await client.write(new TextEncoder().encode("bye\n"));
  await readText(client, 100);
  await warm.finish();
  await warm.end();
}
