/** One fault at one step of a shared listener: who accepts, and what becomes of connections and descriptors. */
import { connect } from "@winsock/handoff";
import {
  actWhenAsked,
  countStreams,
  endTarget,
  INHERITED_STREAMS,
  killedBy,
  opensChannel,
  streamsReturn,
  thawSource,
  whenFaultHasCome,
} from "./cell.ts";
import { mostLeftBehind } from "./expectations.ts";
import { Peer } from "./peer.ts";
import type { SourceProcess } from "./source_process.ts";
import { type FaultPlan, findStep } from "./steps.ts";

const NO_PROCESS = "no process";

/** A connection to the listener, from when it is in the backlog. */
class Client implements Disposable {
  readonly #conn: Deno.TcpConn;
  readonly #peer: Peer;

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.#peer = new Peer(conn);
  }

  /** Returns `undefined` if no process has the listener. */
  static async open(port: number): Promise<Client | undefined> {
    try {
      return new Client((await connect({ hostname: "127.0.0.1", port })).toConn());
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.ConnectionReset) {
        return undefined;
      }
      throw error;
    }
  }

  /** Waits until a process says that it has accepted the connection, or the connection ends. */
  async hear(): Promise<void> {
    await this.#peer.hear().catch(() => {});
  }

  /** Speaks with the process that accepts the connection, until that closes it. Returns which it is. */
  async converse(killed: readonly string[]): Promise<string> {
    try {
      const who = await this.#peer.converse(killed);
      await this.#peer.readEnd();
      return who === "nobody" ? NO_PROCESS : who;
    } catch (error) {
      // The listener was closed while the connection was in its backlog.
      if (error instanceof Error && error.cause instanceof Deno.errors.ConnectionReset) return NO_PROCESS;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#conn.close();
  }
}

/**
 * Shares a listener, and does with it what leads to the fault.
 *
 * @returns The outcome as the source's caller was told, and who answers the next connection: the target, if it accepts, or
 * else the source, which accepts itself when it knows that the target does not; `no process` if the listener is closed.
 * @throws {Error} If the caller was told that the target does not accept, and it does; if a connection that was accepted
 * before is not served; or if a process keeps a descriptor.
 */
export async function runListenerCell(source: SourceProcess, plan: FaultPlan): Promise<string> {
  const { events } = source;
  const { course, side, on } = findStep(plan.step);
  const killed = killedBy(plan);
  events.clear();
  source.tell({ do: "cell", plan });
  const { target, inherits, gate, port } = (await events.next("spawned"))!;
  let ended = false;
  try {
    await events.next("started");
    const before = countStreams(target) - (inherits && opensChannel(plan) ? INHERITED_STREAMS : 0);
    // It waits while nobody accepts.
    using early = course === "share" ? await Client.open(port) : undefined;
    source.tell({ do: "go" });
    if (course !== "share") await events.next("sharing");
    using waiting = course === "resume" ? await Client.open(port) : undefined;
    using served = course === "share" || course === "resume" ? undefined : await Client.open(port);
    await served?.hear();
    const thawing = plan.fault === "freeze source" ? thawSource(source, plan) : undefined;
    source.tell({ do: "operate" });
    if (plan.fault.startsWith("close") && side === "target" && "trace" in on) actWhenAsked(source);
    const outcome = (await events.next("outcome", source.exited))?.outcome;
    await thawing;
    await whenFaultHasCome(source, plan);
    using late = early === undefined && waiting === undefined ? await Client.open(port) : undefined;
    const client = early ?? waiting ?? late;
    const answer = client?.converse(killed) ?? Promise.resolve(NO_PROCESS);
    answer.catch(() => {});
    const servedBy = await served?.converse(killed) ?? "target";
    if (servedBy !== "target" && !killed.includes("target")) {
      throw new Error(`A connection that the target had accepted was answered by ${servedBy}`);
    }
    // A target that accepts is not told to stop before it has accepted what waits.
    if (outcome === "accepts" || outcome === "resumed") {
      await Promise.race([answer, events.next("loop", source.exited)]);
    }
    source.tell({ do: "finish" });
    if (!killed.includes("source")) await events.next("finished");
    if (!killed.includes("target")) {
      await events.next("loop");
      await streamsReturn("target", target, before + mostLeftBehind(plan));
    }
    const accepted = events.count("received") > (served === undefined ? 0 : 1);
    // The target serves it, or nobody else is left who could accept.
    if (accepted || killed.includes("source")) await answer;
    ended = true;
    await endTarget(source, target, killed);
    const who = await answer;
    source.tell({ do: "leave" });
    if (who === "target" && (outcome === "paused" || outcome === "stopped")) {
      throw new Error(`The caller was told that the target has ${outcome}, and it accepts`);
    }
    if (!killed.includes("source")) await events.next("over");
    if (!killed.includes("source") && source.streams !== undefined) {
      await streamsReturn("source", source.pid, source.streams);
    }
    return `${outcome ?? `${killed.join(" and ")} killed`} → ${who}`;
  } finally {
    if (!ended) await endTarget(source, target, killed);
    await Deno.remove(gate).catch(() => {});
  }
}
