// Every fault at every step of handing a connection back, between real processes: a source, a target that hands back, and the
// peer of the connection. `FAULTS=all` runs every cell, and not only a share that changes with each run; `FAULT_SEED` chooses
// these, where frames are cut and which bytes are flipped.
import { assert, assertEquals } from "@std/assert";
import { connect } from "@winsock/handoff";
import { kill, thaw } from "../kit/faults/acts.ts";
import {
  BACK_STEPS,
  type BackFault,
  type BackPlan,
  backTimeout,
  decidedAt,
  existsBack,
  findBackStep,
  mostLeftInSource,
  reasonsOf,
} from "../kit/faults/back.ts";
import { countStreams, PAST_THE_DEADLINE_MS } from "../kit/faults/cell.ts";
import { Events } from "../kit/faults/events.ts";
import { Peer } from "../kit/faults/peer.ts";
import { seedOf } from "../kit/faults/random.ts";
import { FRAME_FAULTS, PROCESS_FAULTS } from "../kit/faults/steps.ts";
import { endChild, RUN, until, within } from "../kit/process.ts";

const SCRIPT = new URL("../children/back_fault_source.ts", import.meta.url).href;
const WINDOWS = Deno.build.os === "windows";
const LANES = WINDOWS ? 3 : 6;
const seed = Number(Deno.env.get("FAULT_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
const all = Deno.env.get("FAULTS") === "all";
const ONE_OF = WINDOWS ? 6 : 2;

const nameOf = ({ step, fault }: BackPlan) => `${step} × ${fault}`;

function killedBy({ fault }: BackPlan): readonly string[] {
  if (fault === "kill both") return ["source", "target"];
  return fault.startsWith("kill ") ? [fault.slice("kill ".length)] : [];
}

/** How many pipes and sockets a target has in the end, when nothing went wrong. */
let usual = 0;

/** Runs a hand-off into its fault on the way back. Returns what the target's caller was told, and who owns the connection. */
async function runCell(plan: BackPlan): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "--allow-all", SCRIPT, JSON.stringify(plan)],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const stdin = child.stdin.getWriter();
  stdin.closed.catch(() => {});
  const tell = (word: string) => void stdin.write(new TextEncoder().encode(`${word}\n`)).catch(() => {});
  const events = new Events(child.stdout);
  const killed = killedBy(plan);
  let target: number | undefined;
  try {
    const { port } = (await events.next("listening"))!;
    const streams = await settledStreams(child.pid);
    tell("start");
    target = (await events.next("spawned"))!.target;
    await events.next("started");
    using client = (await connect({ hostname: "127.0.0.1", port })).toConn();
    const peer = new Peer(client);
    tell("go");
    if (plan.fault !== "none") await events.next("fault", child.status);
    if (plan.fault.startsWith("freeze")) {
      await new Promise((resolve) => setTimeout(resolve, backTimeout(plan) + PAST_THE_DEADLINE_MS));
      thaw(plan.fault === "freeze source" ? child.pid : target);
    }
    const ended = killed.includes("target") ? Promise.resolve() : new Promise(() => {});
    const outcome = (await events.next("outcome", ended))?.outcome;
    const answers = await peer.converse(killed);
    await peer.readEnd();
    if (killed.includes("source")) await within(20_000, child.status);
    tell("finish");
    if (!killed.includes("source")) await events.next("finished");
    if (!killed.includes("target")) {
      await events.next("loop");
      if (plan.fault === "none") usual = await settledStreams(target);
      else await until(() => countStreams(target!) <= usual, `the target has ${usual} descriptors, as without a fault`);
    }
    if (killed.includes("source")) kill(target);
    else {
      tell("end");
      await events.next("ended");
      const most = streams + mostLeftInSource(plan);
      await until(() => countStreams(child.pid) <= most, `the source has ${most} descriptors again`);
    }
    target = undefined;
    const owner = events.has("taken") ? "source" : "target";
    const told = outcome ?? `${killed.join(" and ")} killed`;
    assert(
      outcome === undefined || (outcome === "handed back") === (owner === "source"),
      `the ${owner} has decided, and the target's caller was told: ${outcome}`,
    );
    const decided = decidedAt(findBackStep(plan.step));
    assert(decided === undefined || decided === owner, `it was the ${decided}'s by then, and is the ${owner}'s`);
    if (outcome !== undefined && owner === "target") {
      assert(reasonsOf(plan).includes(outcome), `the target's caller was told: ${outcome}`);
    }
    if (answers === owner) return `${told} → ${owner}`;
    assert(answers === "nobody" && killed.includes(owner), `the ${owner} has decided, and who answers is ${answers}`);
    return `${told} → ${owner} †`;
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}, after ${events}`, { cause: error });
  } finally {
    if (target !== undefined) kill(target);
    await endChild(child);
    await stdin.abort().catch(() => {});
    await events.done;
  }
}

async function settledStreams(processId: number): Promise<number> {
  let count = -1;
  await until(async () => {
    const before = count;
    count = countStreams(processId);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return count === before;
  }, "the descriptors of the source settle");
  return count;
}

async function check(fault: BackFault): Promise<void> {
  const plans = BACK_STEPS.filter((step) => existsBack(step, fault)).map(({ name }): BackPlan => {
    const plan = { step: name, fault, seed: 0 };
    return { ...plan, seed: seedOf(seed, nameOf(plan)) };
  }).filter(({ seed }) => all || (seed >>> 4) % ONE_OF === 0);
  if (usual === 0) assertEquals(await runCell({ step: "taken", fault: "none", seed: 0 }), "handed back → source");
  const wrong: string[] = [];
  const lane = async () => {
    for (let plan = plans.shift(); plan !== undefined; plan = plans.shift()) {
      try {
        const found = await runCell(plan);
        if (Deno.env.get("FAULTS_SHOW")) console.log(`${nameOf(plan)}: ${found}`);
      } catch (error) {
        wrong.push(`${nameOf(plan)}: ${(error as Error).message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  if (wrong.length > 0) throw new Error(`FAULT_SEED=${seed}\n${wrong.join("\n")}`);
}

for (const fault of [...PROCESS_FAULTS, ...FRAME_FAULTS]) {
  Deno.test(`at every step of the way back: ${fault} (FAULT_SEED=${seed})`, () => check(fault));
}
