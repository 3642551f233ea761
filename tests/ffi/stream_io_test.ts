// A connected socket that a thread of the system polls: when it is closed, and when the thread sleeps.
import { assert, assertEquals } from "@std/assert";
import { type PollSystem, PollTable } from "../../ffi/poll_table.ts";
import { Poller } from "../../ffi/poller.ts";
import { type StreamCalls, StreamIo } from "../../ffi/nonblocking_io.ts";
import { systemCalls } from "../../ffi/system.ts";
import { UNIX_POLL, UNIX_STREAMS } from "../../ffi/unix/io.ts";
import { WINSOCK_STREAMS, WinsockPoll } from "../../ffi/windows/io.ts";
import { connection } from "../kit/connections.ts";
import { until, within } from "../kit/process.ts";

const onWindows = Deno.build.os === "windows";
const SYSTEM: PollSystem = onWindows ? new WinsockPoll(systemCalls()) : UNIX_POLL;
const STREAMS: StreamCalls = onWindows ? WINSOCK_STREAMS : UNIX_STREAMS;

/** Threads that wait, how often one began to, and how many waited when a socket was closed. */
const seen = { polling: 0, polls: 0, pollingAtClose: [] as number[] };

const system: PollSystem = Object.assign(Object.create(SYSTEM), {
  async poll(fds: Uint8Array<ArrayBuffer>, count: number, timeout: number) {
    seen.polls++;
    seen.polling++;
    try {
      return await SYSTEM.poll(fds, count, timeout);
    } finally {
      seen.polling--;
    }
  },
});

const streams: StreamCalls = {
  ...STREAMS,
  close(s) {
    seen.pollingAtClose.push(seen.polling);
    STREAMS.close(s);
  },
};

const poller = new Poller(new PollTable(system)).prepare();

function open(handle: bigint): StreamIo {
  systemCalls().unblock(handle);
  return new StreamIo(handle, streams, poller);
}

Deno.test("a socket is closed when no thread looks at it any more, and who waits for it goes on", async () => {
  using pair = await connection();
  const io = open(pair.client.detach());
  const receiving = io.receive();
  await until(() => seen.polling === 1, "a thread waits");
  await within(10_000, io.close());
  assertEquals([seen.pollingAtClose, (await receiving).byteLength], [[0], 0]);
});

Deno.test("a thread that was woken for one more socket waits again, for both", async () => {
  using pair = await connection();
  const [client, server] = [open(pair.client.detach()), open(pair.server.detach())];
  const receiving = client.receive();
  await until(() => seen.polling === 1, "a thread waits");
  const answering = server.receive();
  await new Promise((resolve) => setTimeout(resolve, 100));
  const before = seen.polls;
  await new Promise((resolve) => setTimeout(resolve, 200));
  // It ends its wait by itself once a second.
  assert(seen.polls <= before + 1, `the thread began to wait ${seen.polls - before} times`);
  for (const [io, received] of [[client, answering], [server, receiving]] as const) {
    await io.send(new Uint8Array(1));
    assertEquals((await within(10_000, received)).byteLength, 1);
  }
  await within(10_000, Promise.all([client.close(), server.close()]));
});
