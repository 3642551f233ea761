/**
 * OpenTelemetry for hand-offs and pools: metrics and spans through `npm:@opentelemetry/api`, which Deno exports by
 * itself (`OTEL_DENO=true`).
 *
 * Nothing is measured until a program asks for it, and no other entry point loads this one. Without `OTEL_DENO`, or
 * another SDK of OpenTelemetry, the calls do nothing.
 *
 * @example A server whose pool is observed
 * ```ts ignore
 * import { listen, WorkerPool } from "@winsock/handoff";
 * import { observeHandoffs, observePool } from "@winsock/handoff/otel";
 *
 * const pool = new WorkerPool({ script: new URL("worker.ts", import.meta.url) });
 * using _handoffs = observeHandoffs();
 * using _pool = observePool(pool);
 * await pool.serve(listen({ port: 8000 }));
 * ```
 *
 * @module
 */
import diagnostics from "node:diagnostics_channel";
import {
  metrics,
  type ObservableResult,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "npm:@opentelemetry/api@^1.9.0";
import { BOOLEAN, checkOptions, STRING } from "../internal/options.ts";
import { type HandoffStep, TRACE_CHANNEL } from "../handoff/errors.ts";
import type { WorkerPool } from "../handoff/pool/pool.ts";

/** The name of the meter and of the tracer: `@winsock/handoff`. */
export const SCOPE = "@winsock/handoff";

/** The outcome of a hand-off, for the attribute `handoff.outcome`. */
type Outcome = "taken" | "rejected" | "withdrawn";

/** The steps that end a hand-off in the source. */
const SOURCE_ENDS: Partial<Record<HandoffStep["step"], Outcome>> = {
  "taken-received": "taken",
  "reject-received": "rejected",
  "withdrawn": "withdrawn",
};
/** The steps that end a hand-off in the target. */
const TARGET_ENDS: Partial<Record<HandoffStep["step"], Outcome>> = { taken: "taken", rejected: "rejected" };
/** The limits of the buckets for {@linkcode observeHandoffs}' durations, in seconds. */
const BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10];

/** Options of {@linkcode observeHandoffs}. */
export interface HandoffTelemetryOptions {
  /** Whether there is a span for each socket that this process offers. Defaults to `true`. */
  spans?: boolean;
}

/** A hand-off that the source has offered. */
interface Offer {
  readonly at: number;
  readonly span: Span | undefined;
}

/**
 * Measures the hand-offs of this process, as the diagnostics channel {@linkcode TRACE_CHANNEL} reports them.
 *
 * | instrument | type | attributes |
 * | --- | --- | --- |
 * | `handoff.duration` | histogram, in seconds: from the offer until the source knows the outcome | `handoff.outcome` |
 * | `handoff.in_flight` | up-down counter: sockets that are offered and not decided | |
 * | `handoff.received` | counter: sockets that this process took or rejected, as a target | `handoff.outcome` |
 * | `handoff.closed` | counter: sockets that targets took and have closed | |
 *
 * The outcome is `taken`, `rejected` or `withdrawn`. A socket that was not taken has come back to its source.
 *
 * A span `handoff send` has the outcome, the number of the hand-off (`handoff.sequence`) and the process at the other
 * end (`process.pid`). It has an error status unless the socket was taken.
 *
 * @param options Whether there are spans.
 * @returns Ends the measurement when it is disposed.
 */
export function observeHandoffs(options: HandoffTelemetryOptions = {}): Disposable {
  checkOptions(options, { spans: BOOLEAN });
  const { spans = true } = options;
  const meter = metrics.getMeter(SCOPE);
  const tracer = trace.getTracer(SCOPE);
  const duration = meter.createHistogram("handoff.duration", {
    description: "The time from the offer of a socket until the source knows the outcome",
    unit: "s",
    advice: { explicitBucketBoundaries: BUCKETS },
  });
  const inFlight = meter.createUpDownCounter("handoff.in_flight", {
    description: "The sockets that are offered and not decided",
    unit: "{socket}",
  });
  const received = meter.createCounter("handoff.received", {
    description: "The sockets that this process took or rejected as a target",
    unit: "{socket}",
  });
  const closed = meter.createCounter("handoff.closed", {
    description: "The sockets that targets took and have closed",
    unit: "{socket}",
  });
  const offers = new Map<string, Offer>();

  const onStep = (message: unknown) => {
    const { step, sequence, peerProcessId } = message as HandoffStep;
    const key = `${peerProcessId}/${sequence}`;
    if (step === "offered") {
      const span = spans
        ? tracer.startSpan("handoff send", {
          kind: SpanKind.PRODUCER,
          attributes: { "process.pid": peerProcessId, "handoff.sequence": sequence },
        })
        : undefined;
      offers.set(key, { at: performance.now(), span });
      return inFlight.add(1);
    }
    if (step === "done") return closed.add(1);
    const decided = SOURCE_ENDS[step];
    const offer = decided === undefined ? undefined : offers.get(key);
    if (decided !== undefined && offer !== undefined) {
      offers.delete(key);
      inFlight.add(-1);
      duration.record((performance.now() - offer.at) / 1000, { "handoff.outcome": decided });
      offer.span?.setAttribute("handoff.outcome", decided);
      if (decided !== "taken") offer.span?.setStatus({ code: SpanStatusCode.ERROR, message: decided });
      return offer.span?.end();
    }
    const answered = TARGET_ENDS[step];
    if (answered !== undefined) received.add(1, { "handoff.outcome": answered });
  };
  diagnostics.subscribe(TRACE_CHANNEL, onStep);
  return {
    [Symbol.dispose]() {
      diagnostics.unsubscribe(TRACE_CHANNEL, onStep);
      inFlight.add(-offers.size);
      for (const { span } of offers.values()) span?.end();
      offers.clear();
    },
  };
}

/** Options of {@linkcode observePool}. */
export interface PoolTelemetryOptions {
  /** The name of the pool, for the attribute `handoff.pool.name`. Defaults to `default`. */
  name?: string;
}

/**
 * Measures a pool. Its statistics are read whenever metrics are collected, and cost nothing in between.
 *
 * | instrument | type | attributes |
 * | --- | --- | --- |
 * | `handoff.pool.workers` | gauge: the workers in each state | `handoff.worker.state` |
 * | `handoff.pool.worker.sockets` | gauge: the sockets that each worker has | `handoff.worker.index` |
 * | `handoff.pool.worker.restarts` | counter: the workers of each slot after the first | `handoff.worker.index` |
 * | `handoff.pool.waiting` | gauge: the sockets that wait for a worker with room | |
 * | `handoff.pool.offered`, `handoff.pool.taken`, `handoff.pool.returned` | counters | |
 *
 * All of them have the attribute `handoff.pool.name`.
 *
 * @param pool The pool.
 * @param options The name of the pool.
 * @returns Ends the measurement when it is disposed.
 */
export function observePool(pool: WorkerPool, options: PoolTelemetryOptions = {}): Disposable {
  checkOptions(options, { name: STRING });
  const { name = "default" } = options;
  const meter = metrics.getMeter(SCOPE);
  const attributes = { "handoff.pool.name": name };
  const gauge = (instrument: string, description: string, unit: string) =>
    meter.createObservableGauge(`handoff.pool.${instrument}`, { description, unit });
  const counter = (instrument: string, description: string, unit: string) =>
    meter.createObservableCounter(`handoff.pool.${instrument}`, { description, unit });
  const workers = gauge("workers", "The workers in each state", "{worker}");
  const sockets = gauge("worker.sockets", "The sockets that each worker has", "{socket}");
  const restarts = counter("worker.restarts", "The workers of each slot after the first", "{worker}");
  const waiting = gauge("waiting", "The sockets that wait for a worker with room", "{socket}");
  const offered = counter("offered", "The times that a socket was offered to a worker", "{offer}");
  const taken = counter("taken", "The sockets that workers took", "{socket}");
  const returned = counter("returned", "The offers that ended with the socket back in the source", "{offer}");

  const observers: [typeof workers, (result: ObservableResult) => void][] = [
    [workers, (result) => {
      const states = Map.groupBy(pool.statistics.workers, ({ state }) => state);
      for (const [state, { length }] of states) {
        result.observe(length, { ...attributes, "handoff.worker.state": state });
      }
    }],
    [sockets, (result) => {
      for (const { index, held } of pool.statistics.workers) {
        result.observe(held, { ...attributes, "handoff.worker.index": index });
      }
    }],
    [restarts, (result) => {
      for (const { index, restarts } of pool.statistics.workers) {
        result.observe(restarts, { ...attributes, "handoff.worker.index": index });
      }
    }],
    [waiting, (result) => result.observe(pool.statistics.waiting, attributes)],
    [offered, (result) => result.observe(pool.statistics.offered, attributes)],
    [taken, (result) => result.observe(pool.statistics.taken, attributes)],
    [returned, (result) => result.observe(pool.statistics.returned, attributes)],
  ];
  for (const [instrument, observe] of observers) instrument.addCallback(observe);
  return {
    [Symbol.dispose]() {
      for (const [instrument, observe] of observers) instrument.removeCallback(observe);
    },
  };
}
