/** What a connection does, told in words: the same scenarios for Deno's own connections and for the library's. */
import { readText, writeAll } from "./connections.ts";
import { within } from "./process.ts";

/** One end as a `Deno.Conn`, the one that is looked at, and its peer. */
export interface ScenarioEnds {
  readonly near: Deno.TcpConn;
  /** A connection, too, on which nothing waits until the scenario says so. */
  readonly far: Deno.TcpConn;
  /** Ends the connection by a reset. Nothing was done with `far` before. */
  reset(): void;
}

/** Does something with a connection, and tells what came of it. */
export type Scenario = (ends: ScenarioEnds) => Promise<unknown[]>;

const MiB = 1024 ** 2;

/** What came of a call: its result, or the class of its error. */
export async function outcome(call: () => unknown): Promise<unknown> {
  try {
    const result = await within(20_000, Promise.resolve(call()));
    // What `closeWrite` resolves to is nothing to rely on.
    return result ?? "nothing";
  } catch (error) {
    return (error as Error).constructor.name;
  }
}

/** Outcomes of what was begun before; none of it is reported as unhandled meanwhile. */
async function outcomes(...calls: Promise<unknown>[]): Promise<unknown[]> {
  return await Promise.all(calls.map((call) => outcome(() => call)));
}

async function read(conn: Deno.Conn): Promise<number | "the end"> {
  return await conn.read(new Uint8Array(8)) ?? "the end";
}

/** Writes until it fails, as Deno's writes do not take all that is given. */
async function writeForEver(conn: Deno.Conn): Promise<never> {
  for (;;) await conn.write(new Uint8Array(MiB));
}

/** Writes until a write waits, and returns that. */
async function fill(conn: Deno.Conn): Promise<[waiting: Promise<number>]> {
  for (;;) {
    const writing = conn.write(new Uint8Array(MiB));
    if (await Promise.race([writing.then(() => false), pause(100).then(() => true)])) return [writing];
  }
}

async function readAll(conn: Deno.Conn): Promise<number> {
  const buffer = new Uint8Array(MiB);
  let total = 0;
  for (let count; (count = await conn.read(buffer)) !== null;) total += count;
  return total;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The calls of a connection, one after the other. */
async function everyCall(conn: Deno.TcpConn): Promise<unknown[]> {
  const options = conn.localAddr.transport === "tcp" ? [() => conn.setNoDelay(), () => conn.setKeepAlive()] : [];
  const calls = [
    () => read(conn),
    () => conn.read(new Uint8Array(0)),
    () => conn.write(new Uint8Array(1)),
    () => conn.closeWrite(),
    () => conn.ref(),
    () => conn.unref(),
    ...options,
  ];
  const told = [];
  for (const call of calls) told.push(await outcome(call));
  return told;
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  "each side ends by itself, as often as it likes": async ({ near, far }) => {
    const told = [
      await outcome(() => near.write(new Uint8Array(3))),
      await outcome(() => near.closeWrite()),
      await outcome(() => near.closeWrite()),
      await outcome(() => readAll(far)),
      await outcome(() => far.write(new Uint8Array(5))),
      await outcome(() => read(near)),
      await outcome(() => near.write(new Uint8Array(1))),
      await outcome(() => near.write(new Uint8Array(0))),
      await outcome(() => near.closeWrite()),
    ];
    await far.closeWrite();
    told.push(await outcome(() => read(near)), await outcome(() => read(near)));
    return told;
  },

  "once both sides have ended, nothing more comes of it": async ({ near, far }) => {
    await far.closeWrite();
    await near.closeWrite();
    const told = [await outcome(() => read(near)), await outcome(() => read(far))];
    await pause(20);
    return [...told, ...await everyCall(near), await outcome(() => near.close()), ...await everyCall(near)];
  },

  "what is closed is a bad resource": async ({ near, far }) => {
    near.close();
    return [
      ...await everyCall(near),
      await outcome(() => near[Symbol.dispose]()),
      await outcome(() => near.readable.getReader().read()),
      await outcome(() => near.writable.getWriter().write(new Uint8Array(1))),
      await outcome(() => read(far)),
      near.localAddr.transport,
      near.remoteAddr.transport,
    ];
  },

  "closing twice": async ({ near }) => [
    await outcome(() => near.close()),
    await outcome(() => near.close()),
    await outcome(() => near[Symbol.dispose]()),
  ],

  "what waits is interrupted by closing, and what waits behind it": async ({ near }) => {
    const [writing] = await fill(near);
    const waiting = outcomes(
      writing,
      near.write(new Uint8Array(8)),
      near.closeWrite(),
      read(near),
      read(near),
    );
    await pause(20);
    near.close();
    return [...await waiting, await outcome(() => read(near))];
  },

  "streams that wait are told of closing": async ({ near }) => {
    await fill(near);
    const reader = near.readable.getReader();
    const writer = near.writable.getWriter();
    const waiting = outcomes(reader.read(), writer.write(new Uint8Array(MiB)), reader.closed, writer.closed);
    await pause(20);
    near.close();
    return await waiting;
  },

  "this side ends behind what is being written": async ({ near, far }) => {
    const writing = [near.write(new Uint8Array(8 * MiB)), near.write(new Uint8Array(8 * MiB))];
    const ended = near.closeWrite();
    const arrived = await outcome(() => readAll(far));
    const [first, second, end] = await outcomes(...writing, ended);
    return [arrived === Number(first) + Number(second), end];
  },

  "reads and writes that wait together are served in order": async ({ near, far }) => {
    const reading = [near.read(new Uint8Array(2)), near.read(new Uint8Array(3)), near.read(new Uint8Array(9))];
    await far.write(new Uint8Array(7));
    const writing = [near.write(new Uint8Array([1])), near.write(new Uint8Array([2])), near.write(new Uint8Array([3]))];
    const told = await outcomes(...reading, ...writing);
    return [...told, [...new TextEncoder().encode(await readText(far, 3))].join()];
  },

  "nothing is read into nothing, and nothing written is nothing": async ({ near, far }) => {
    return [
      await outcome(() => near.read(new Uint8Array(0))),
      await outcome(() => near.write(new Uint8Array(0))),
      await outcome(() => far.write(new Uint8Array(1))),
      await outcome(() => near.read(new Uint8Array(0))),
      await outcome(() => read(near)),
    ];
  },

  "readable brings what came, in chunks and in buffers of one's own": async ({ near, far }) => {
    await far.write(new Uint8Array([1, 2, 3, 4, 5]));
    const reader = near.readable.getReader({ mode: "byob" });
    const { value } = await reader.read(new Uint8Array(3));
    reader.releaseLock();
    const direct = await outcome(() => read(near));
    await far.write(new Uint8Array([6]));
    const other = near.readable.getReader();
    const chunk = await other.read();
    return [
      value!.join(),
      direct,
      chunk.value!.join(),
      near.readable === near.readable,
      near.writable === near.writable,
    ];
  },

  "writable takes buffers and views, and nothing else": async ({ near, far }) => {
    const writer = near.writable.getWriter();
    const chunks = [new Uint8Array([1]), new Uint8Array([2]).buffer, new DataView(new Uint8Array([3]).buffer), "text"];
    const told = [];
    for (const chunk of chunks) told.push(await outcome(() => writer.write(chunk as Uint8Array)));
    return [...told, [...new TextEncoder().encode(await readText(far, 3))].join()];
  },

  "all of a long chunk is written": async ({ near, far }) => {
    const writer = near.writable.getWriter();
    const writing = writer.write(new Uint8Array(16 * MiB)).then(() => writer.close());
    return [await outcome(() => readAll(far)), await outcome(() => writing)];
  },

  "what is piped in ends this side": async ({ near, far }) => {
    const piping = new Blob(["abc"]).stream().pipeTo(near.writable);
    return [
      await outcome(() => piping),
      await outcome(() => readAll(far)),
      await outcome(() => near.closeWrite()),
      await outcome(() => far.write(new Uint8Array(2))),
      await outcome(() => read(near)),
    ];
  },

  "a readable at its end leaves this side": async ({ near, far }) => {
    await far.closeWrite();
    const { done } = await near.readable.getReader().read();
    return [
      done,
      await outcome(() => near.write(new Uint8Array(2))),
      await outcome(() => read(far)),
      await outcome(() => near.closeWrite()),
    ];
  },

  "a readable that is cancelled closes all": async ({ near, far }) => {
    const reader = near.readable.getReader();
    const reading = outcomes(reader.read().then(({ done }) => done));
    await pause(20);
    const cancelled = await outcome(() => reader.cancel());
    return [cancelled, ...await reading, await outcome(() => read(far)), ...await everyCall(near)];
  },

  "a writable that is aborted closes all": async ({ near, far }) => {
    const reading = outcomes(read(near));
    const aborted = await outcome(() => near.writable.abort(new Error("enough")));
    return [aborted, ...await reading, await outcome(() => read(far)), ...await everyCall(near)];
  },

  "a reset is told to a read that waits": async ({ near, reset }) => {
    const reading = outcomes(read(near));
    await pause(20);
    reset();
    return [...await reading, ...await everyCall(near)];
  },

  "a reset is told to a write that waits": async ({ near, reset }) => {
    const [writing] = await fill(near);
    const told = outcomes(writing);
    reset();
    return [...await told, ...await everyCall(near)];
  },

  "a reset is told to a read and a write that wait": async ({ near, reset }) => {
    const [writing] = await fill(near);
    const told = outcomes(read(near), writing);
    reset();
    return [...await told, ...await everyCall(near)];
  },

  "a reset that came before is told to the next read": async ({ near, reset }) => {
    reset();
    await pause(50);
    return await everyCall(near);
  },

  "a reset that came before is told to the next write": async ({ near, reset }) => {
    reset();
    await pause(50);
    return [await outcome(() => near.write(new Uint8Array(1))), ...await everyCall(near)];
  },

  "a stream is told of a reset, and closes all": async ({ near, reset }) => {
    const reading = outcomes(near.readable.getReader().read());
    await pause(20);
    reset();
    return [...await reading, await outcome(() => near.write(new Uint8Array(1)))];
  },

  "a peer that has gone is written to until it says so": async ({ near, far }) => {
    far.close();
    await pause(20);
    return [await outcome(() => writeForEver(near)), await outcome(() => read(near))];
  },

  "a peer that has ended its side is answered in the same turn": async ({ near, far }) => {
    await far.closeWrite();
    await pause(20);
    return [
      await outcome(() => near.write(new Uint8Array(5))),
      await outcome(() => near.closeWrite()),
      await outcome(() => readAll(far)),
    ];
  },

  "a peer that has ended its side is answered at length": async ({ near, far }) => {
    await far.closeWrite();
    const end = await outcome(() => read(near));
    const writing = writeAll(near, new Uint8Array(8 * MiB)).then(() => near.closeWrite());
    return [end, await outcome(() => readAll(far)), await outcome(() => writing)];
  },
};
