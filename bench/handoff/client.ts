/**
 * The client of every contestant: keeps some connections in flight, each of which connects, waits for its first byte and
 * closes.
 *
 * It makes the system's calls itself and waits in `epoll_wait`, for it shares the machine with what is measured:
 * `node:net` takes several times the processor time and would be the limit at 64 in flight. Nothing else goes on in
 * this process while a sample runs, so its calls may block.
 *
 * Reads a {@linkcode SampleRequest} a line from stdin, and answers each with a {@linkcode ClientSample} on stdout.
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { LIBRARY_PATHS } from "@winsock/handoff";
import { Epoll, openClientCalls } from "./client_calls.ts";
import { quantile } from "./quantile.mjs";

/** One sample to take. */
export interface SampleRequest {
  readonly port: number;
  readonly inFlight: number;
  readonly seconds: number;
}

/** What came of it. */
export interface ClientSample {
  /** Connections whose first byte came, a second. */
  readonly perSecond: number;
  readonly answered: number;
  /** Milliseconds from before the connect to the first byte. */
  readonly firstByteP50: number;
  readonly firstByteP99: number;
  /** Connections that could not be made, or ended without a byte. */
  readonly lost: number;
  /** Connections given up because nothing came. */
  readonly stalled: number;
}

/** A connection without an answer for so long has stalled: the slowest contestant takes a hundredth of it. */
const PATIENCE_MS = 2000;
/** So many lost connections in a row end a sample: the contestant is gone. */
const MAX_LOST = 100;

function takeSample({ port, inFlight, seconds }: SampleRequest): ClientSample {
  using epoll = new Epoll(calls);
  const begun = new Map<number, number>();
  const latencies: number[] = [];
  let lost = 0;
  let stalled = 0;

  const open = (now: number) => {
    const descriptor = calls.connect(port);
    if (descriptor < 0) return void lost++;
    begun.set(descriptor, now);
    epoll.watch(descriptor);
  };
  const close = (descriptor: number) => {
    begun.delete(descriptor);
    calls.close(descriptor);
  };

  const start = performance.now();
  const end = start + seconds * 1000;
  for (let count = 0; count < inFlight; count++) open(performance.now());
  let nextLook = start + PATIENCE_MS;
  for (let now = start; now < end && lost < MAX_LOST; now = performance.now()) {
    for (const descriptor of epoll.wait(Math.ceil(Math.min(end - now, 250)))) {
      const answered = performance.now();
      if (calls.readSome(descriptor) > 0) {
        if (answered < end) latencies.push(answered - begun.get(descriptor)!);
      } else lost++;
      close(descriptor);
    }
    if (now >= nextLook) {
      for (const [descriptor, since] of begun) {
        if (now - since < PATIENCE_MS) continue;
        stalled++;
        close(descriptor);
      }
      nextLook = now + 250;
    }
    while (begun.size < inFlight && lost < MAX_LOST) open(performance.now());
  }
  // What is under way is answered before the next sample begins, and not counted.
  for (const deadline = performance.now() + PATIENCE_MS; begun.size > 0 && performance.now() < deadline;) {
    for (const descriptor of epoll.wait(100)) close(descriptor);
  }
  stalled += begun.size;
  for (const descriptor of begun.keys()) close(descriptor);

  latencies.sort((a, b) => a - b);
  return {
    perSecond: latencies.length / seconds,
    answered: latencies.length,
    firstByteP50: quantile(latencies, 0.5),
    firstByteP99: quantile(latencies, 0.99),
    lost,
    stalled,
  };
}

const calls = openClientCalls(LIBRARY_PATHS);
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(takeSample(JSON.parse(line))));
}
