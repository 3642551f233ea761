// What Deno's exporter sends of hand-offs and pools, to a receiver of OTLP over HTTP.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { observeHandoffs } from "@winsock/handoff/otel";
import { type MeterProvider, metrics } from "npm:@opentelemetry/api@^1.9.0";
import { encodeFrame, FrameType } from "../../handoff/protocol.ts";
import { connection } from "../kit/connections.ts";
import { type FakeTarget, withFakeTarget } from "../kit/handoffs.ts";
import { FFI_GRANT, RUN, within } from "../kit/process.ts";

/** A value that was exported, and its attributes. */
interface Point {
  readonly name: string;
  readonly attributes: Record<string, unknown>;
  readonly value: number;
}

/** What a receiver has got. */
interface Received {
  readonly points: Point[];
  readonly spans: { name: string; attributes: Record<string, unknown>; failed: boolean }[];
}

// deno-lint-ignore no-explicit-any -- OTLP's JSON
type Json = any;

function attributesOf(list: Json[] = []): Record<string, unknown> {
  return Object.fromEntries(
    list.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue ?? value.doubleValue)]),
  );
}

function take(received: Received, body: Json): void {
  for (const { scopeMetrics } of body.resourceMetrics ?? []) {
    for (const { metrics } of scopeMetrics) {
      for (const { name, sum, gauge, histogram } of metrics) {
        for (const point of (sum ?? gauge ?? histogram).dataPoints) {
          const value = Number(point.count ?? point.asInt ?? point.asDouble);
          received.points.push({ name, attributes: attributesOf(point.attributes), value });
        }
      }
    }
  }
  for (const { scopeSpans } of body.resourceSpans ?? []) {
    for (const { spans } of scopeSpans) {
      for (const { name, attributes, status } of spans) {
        received.spans.push({ name, attributes: attributesOf(attributes), failed: status?.code === 2 });
      }
    }
  }
}

/** Runs the observed pool, with Deno's exporter or without it. */
async function observe(args: string[], env: (port: number) => Record<string, string>): Promise<Received> {
  const received: Received = { points: [], spans: [] };
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    take(received, await request.json());
    return Response.json({});
  });
  try {
    const script = new URL("../children/observed_pool.ts", import.meta.url).href;
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [...RUN, "--allow-run", FFI_GRANT, script, ...args],
      env: env(server.addr.port),
      stdin: "null",
      stderr: "inherit",
    }).output();
    assertEquals(code, 0);
    assertStringIncludes(new TextDecoder().decode(stdout), `observed ${args[0]}`);
    return received;
  } finally {
    await server.shutdown();
  }
}

Deno.test("hand-offs and a pool are exported as metrics and spans, to whom OTEL_DENO asks for", async () => {
  const { points, spans } = await observe(["5", "1"], (port) => ({
    OTEL_DENO: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_METRIC_EXPORT_INTERVAL: "100",
  }));
  const last = (name: string, attributes: Record<string, unknown> = {}) =>
    points.findLast((point) =>
      point.name === name && Object.entries(attributes).every(([key, value]) => point.attributes[key] === value)
    )?.value;
  assertEquals(last("handoff.duration", { "handoff.outcome": "taken" }), 5);
  assertEquals(last("handoff.duration", { "handoff.outcome": "rejected" }), 1);
  assertEquals(last("handoff.in_flight"), 0);
  const pool = { "handoff.pool.name": "echo" };
  assertEquals(last("handoff.pool.taken", pool), 5);
  assertEquals(last("handoff.pool.returned", pool), 0);
  assertEquals(last("handoff.pool.worker.restarts", { ...pool, "handoff.worker.index": 1 }), 0);
  assert(points.some(({ name, value }) => name === "handoff.pool.workers" && value === 2), "both are ready");
  assert(
    points.some(({ name, value }) => name === "handoff.pool.worker.sockets" && value >= 2),
    "they have the connections",
  );
  assertEquals(spans.length, 6);
  for (const { name, attributes, failed } of spans) {
    assertEquals([name, failed], ["handoff send", attributes["handoff.outcome"] === "rejected"]);
    assert(Number(attributes["process.pid"]) > 0 && Number(attributes["handoff.sequence"]) > 0);
  }
  assertEquals(spans.filter(({ failed }) => failed).length, 1);
});

Deno.test("without OTEL_DENO nothing is exported, and the program runs as before", async () => {
  const received = await observe(["2", "1"], (port) => ({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` }));
  assertEquals(received, { points: [], spans: [] });
});

/** What each instrument was told: the values, or the outcomes of what was measured. */
class Instruments implements Disposable {
  readonly told: Record<string, unknown[]> = {};

  constructor() {
    const instrument = (name: string) => {
      const told = this.told[name] = [] as unknown[];
      return {
        add: (value: number, attributes?: Record<string, unknown>) =>
          told.push(attributes?.["handoff.outcome"] ?? value),
        record: (_seconds: number, attributes: Record<string, unknown>) => told.push(attributes["handoff.outcome"]),
      };
    };
    const meter = { createHistogram: instrument, createUpDownCounter: instrument, createCounter: instrument };
    metrics.setGlobalMeterProvider({ getMeter: () => meter } as unknown as MeterProvider);
  }

  [Symbol.dispose](): void {
    metrics.disable();
  }
}

/** How a hand-off can end for its source: the offer, what the target then does, and the outcome. */
const ENDS: Record<string, [outcome: string, (target: FakeTarget, abort: AbortController) => Promise<void>]> = {
  "it is taken": ["taken", async (target) => void await target.take(await target.offer())],
  "it is rejected": ["rejected", async (target) => {
    const offer = await target.offer();
    await target.drop(offer);
    target.say(encodeFrame(FrameType.REJECT, offer.sequence));
  }],
  "the caller aborts": ["withdrawn", async (target, abort) => {
    await target.drop(await target.offer());
    abort.abort();
  }],
  "the deadline passes after the decision": ["taken", async (target) => {
    const offer = await target.offer();
    await target.drop(offer);
    target.decide(offer);
  }],
  "the target ends after the offer": ["withdrawn", async (target) => {
    await target.drop(await target.offer());
    target.exit(1);
  }],
  "the target ends after the decision, and before it answers": ["taken", async (target) => {
    const offer = await target.offer();
    await target.drop(offer);
    target.decide(offer);
    target.exit(1);
  }],
  "the target closes the channel": ["withdrawn", async (target) => {
    await target.drop(await target.offer());
    target.channel.close();
  }],
  "the target says that it took what it has not": ["withdrawn", async (target) => {
    const offer = await target.offer();
    await target.drop(offer);
    target.say(encodeFrame(FrameType.TAKEN, offer.sequence));
  }],
  "the target says that it rejects what it took": ["taken", async (target) => {
    const offer = await target.offer();
    await target.drop(offer);
    target.decide(offer);
    target.say(encodeFrame(FrameType.REJECT, offer.sequence));
  }],
};

for (const [how, [expected, end]] of Object.entries(ENDS)) {
  Deno.test(`a hand-off is measured once, and is not in flight any more: ${how}`, async () => {
    using instruments = new Instruments();
    using _observed = observeHandoffs({ spans: false });
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      const abort = new AbortController();
      target.ready();
      const sending = Promise.allSettled([source.send(pair.server, { signal: abort.signal })]);
      await end(target, abort);
      await within(5_000, sending);
      assertEquals(instruments.told["handoff.in_flight"], [1, -1]);
      assertEquals(instruments.told["handoff.duration"], [expected]);
    }, { sendTimeout: how.includes("deadline") ? 300 : 5_000 });
  });
}
