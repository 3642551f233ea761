// A target that is killed, or stopped, between any two steps of handing a connection back. Whoever owns the connection then
// answers on it, or it ends: it is never answered twice, never left without an end, and no descriptor stays open.
import { assert, assertEquals } from "@std/assert";
import { HandoffSource, type HandoffStep, Socket, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";
import { connection, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { freeze, kill, thaw } from "../kit/faults/acts.ts";
import { endChild, spawnChild, until, within } from "../kit/process.ts";
import { processState } from "../kit/process_state.ts";

type Act = "kill" | "freeze";

interface Fault {
  readonly step: HandoffStep["step"];
  /** The process that has just taken the step. */
  readonly side: "source" | "target";
  /** Whether the source has the connection by then, whatever happens to the target. */
  readonly owned?: boolean;
}

const FAULTS: readonly Fault[] = [
  { step: "offered", side: "target" },
  { step: "offer-received", side: "source" },
  { step: "opened", side: "source" },
  { step: "taken", side: "source", owned: true },
  { step: "taken-received", side: "target", owned: true },
  { step: "done", side: "target", owned: true },
];

/** Does something to a child when this process has taken a step of what the child hands back. */
function atStep(
  step: HandoffStep["step"],
  { pid }: Deno.ChildProcess,
  act: Act,
): Disposable & { readonly happened: () => boolean } {
  // This process offers before the child does; the child's steps have no such numbers here.
  let begun = false;
  let done = false;
  const watch = (message: unknown) => {
    const { step: taken, peerProcessId } = message as HandoffStep;
    if (peerProcessId !== pid || done) return;
    begun ||= taken === "offer-received";
    if (!begun || taken !== step) return;
    done = true;
    if (act === "kill") kill(pid);
    else freeze(pid);
  };
  diagnostics.subscribe(TRACE_CHANNEL, watch);
  return { happened: () => done, [Symbol.dispose]: () => void diagnostics.unsubscribe(TRACE_CHANNEL, watch) };
}

/** Lets it happen once. Returns whether the source got the connection. */
async function happen({ step, side }: Fault, act: Act): Promise<boolean> {
  const args = side === "target" ? [step, act] : ["nothing", act];
  const child = spawnChild("faulty_giver.ts", args, ["--allow-run"]);
  // A target that is stopped before its TAKEN has left owns what it has taken all the same: `send` then ends at its time.
  const source = new HandoffSource(child, { sendTimeout: 1_500 });
  using fault = side === "source" ? atStep(step, child, act) : undefined;
  using pair = await connection();
  using client = pair.client.toConn();
  try {
    const answered = (async () => {
      for await (const { socket, data } of source.messages) {
        assert(socket instanceof Socket);
        assertEquals(data, "back");
        using conn = socket.toConn();
        await writeText(conn, "answer");
        return true;
      }
      return false;
    })();
    await within(20_000, source.ready);
    await source.send(pair.server);
    if (act === "freeze") {
      // Nothing here waits for a target that is stopped, and it goes on where it was.
      const stopped = fault?.happened ?? (() => "tT".includes(processState(child.pid) ?? "-"));
      await until(stopped, "the target is stopped");
      await new Promise((resolve) => setTimeout(resolve, 100));
      thaw(child.pid);
      await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 1_000))]);
    }
    if (act === "freeze") kill(child.pid);
    const got = await within(20_000, answered);
    // Either the source has answered, and nobody else; or the connection has ended with the target.
    const text = await within(10_000, readText(client, 100).catch(() => ""));
    assertEquals(text, got ? "answer" : "");
    await within(20_000, source.closed);
    return got;
  } finally {
    await endChild(child);
    await source.closed;
  }
}

const OWNED: Fault = { step: "taken", side: "source", owned: true };
let warm: Promise<boolean> | undefined;

for (const act of ["kill", "freeze"] as const) {
  for (const fault of FAULTS) {
    const { step, side, owned } = fault;
    const what = act === "kill" ? "is killed" : "is stopped for a while, and then killed,";
    // On Windows a process cannot stop itself, and a duplicate whose OFFER never left stays open in the source's process.
    const ignore = Deno.build.os === "windows" && side === "target" && (act === "freeze" || step === "offered");
    Deno.test(`a target that ${what} when the ${side} has just taken the step ${step}`, { ignore }, async () => {
      // What this process opens once is open then.
      await (warm ??= happen(OWNED, "kill"));
      const before = countDescriptors();
      const got = await happen(fault, act);
      if (owned) assertEquals(got, true, "it was the source's by then");
      // A target that goes on hands the connection back after all.
      if (act === "freeze") assertEquals(got, true);
      await until(() => countDescriptors() < before + 8, "nothing is left open");
    });
  }
}
