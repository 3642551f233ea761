// What a target hands back after its source has said END, or it has said LEAVE itself: it fails with a reason, and the socket
// stays with the target. What is on its way at that moment has one owner.
import { assert, assertEquals } from "@std/assert";
import {
  type HandoffError,
  type HandoffMessage,
  HandoffSource,
  type HandoffTarget,
  INVALID_SOCKET,
  type Socket,
  type SocketKind,
} from "@winsock/handoff";
import { connection, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { duplicates, outcome, withInProcessPair } from "../kit/handoffs.ts";
import { endChild, spawnChild, until, within } from "../kit/process.ts";

const CLOSED = "the source takes nothing back any more: it has closed the channel, or ended";
const LEFT = "the source takes nothing back any more: this process has left its loop";

type Target = HandoffTarget<SocketKind>;

/** `sent`, or the outcome and the reason of the error. */
function settled(sending: Promise<void>): Promise<[how: string, reason: string]> {
  return sending.then(() => ["sent", ""], ({ outcome, reason }: HandoffError) => [outcome, reason]);
}

async function give(source: HandoffSource, target: Target, socket: Socket): Promise<Socket> {
  const [{ value }] = await within(10_000, Promise.all([target.next(), source.send(socket)]));
  return value!.socket as Socket;
}

/** How a channel ends, and the reason that the target is told. */
const ENDS: Record<string, [end: (source: HandoffSource, target: Target) => Promise<unknown>, reason: string]> = {
  "the source was closed": [(source) => source.close(), CLOSED],
  "the target has left": [(_, target) => target.return(), LEFT],
  "the target has left, and the source has answered": [
    async (source, target) => {
      await target.return();
      await source.closed;
    },
    LEFT,
  ],
  "the source was closed, and the target has left after that": [
    async (source, target) => {
      await source.close();
      await within(5_000, target.next());
    },
    CLOSED,
  ],
};

for (const [what, [end, reason]] of Object.entries(ENDS)) {
  Deno.test(`nothing is handed back when ${what}, and the socket is the target's, as it was`, async () => {
    await withInProcessPair(async (source, target) => {
      using pair = await connection();
      using client = pair.client.toConn();
      await writeText(client, "unread");
      const there = await give(source, target, pair.server);
      there.unread(new TextEncoder().encode("ahead "));
      await end(source, target);
      // The channel may end a turn later; until then what is sent waits, and comes back.
      const [sending, posting] = await within(
        5_000,
        Promise.all([outcome(target.send(there)), outcome(target.postMessage("late"))]),
      );
      assertEquals([sending, posting], [["closed", reason], ["closed", reason]]);
      assert(there.handle !== INVALID_SOCKET);
      // It can be read, used and sent again like any other.
      assertEquals((await outcome(target.send(there)))[0], "closed");
      using conn = there.toConn();
      assertEquals(await readText(conn, 12), "ahead unread");
      await writeText(conn, "answer");
      assertEquals(await readText(client, 6), "answer");
    });
  });
}

/** The sockets that the source's program gets until the end. */
async function collect(messages: AsyncIterable<HandoffMessage>): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for await (const { socket } of messages) if (socket !== undefined) sockets.push(socket as Socket);
  return sockets;
}

for (const first of ["source", "target"] as const) {
  for (const reads of [true, false]) {
    const reading = reads ? "reads its messages" : "does not read its messages";
    Deno.test(`what is on its way back when the ${first} ends has one owner each: the source ${reading}`, async () => {
      await withInProcessPair(async (source, target) => {
        await within(5_000, source.ready);
        using pair = await connection();
        // More than there are slots, so that some have not left.
        const copies = await duplicates(pair.server, 100);
        const received = reads ? collect(source.messages) : Promise.resolve([]);
        const outcomes = copies.map((copy) => settled(target.send(copy)));
        if (first === "source") await source.close();
        else await target.return();
        const said = await within(20_000, Promise.all(outcomes));
        const sent = said.filter(([how]) => how === "sent").length;
        await within(5_000, source.closed);
        if (reads) assertEquals((await within(5_000, received)).length, sent);
        else assertEquals(sent, 0);
        for (const [index, copy] of copies.entries()) {
          const [how, reason] = said[index]!;
          assertEquals(copy.handle === INVALID_SOCKET, how === "sent");
          if (how !== "sent") assertEquals([how, reason], ["closed", first === "source" ? CLOSED : LEFT]);
          copy.close();
        }
        for (const socket of await received) socket.close();
      });
    });
  }
}

for (const mode of ["end", "leave", "abort"]) {
  Deno.test(`a process that hands back too late answers its client itself: ${mode}`, async () => {
    const run = async () => {
      const child = spawnChild("late_giver.ts", [mode]);
      const source = new HandoffSource(child);
      try {
        using pair = await connection();
        using client = pair.client.toConn();
        await within(20_000, source.send(pair.server));
        if (mode === "end") await within(10_000, source.close());
        const reason = mode === "end" ? CLOSED : LEFT;
        const said = JSON.parse(await within(20_000, readText(client, 1_000)));
        assertEquals(said, [`closed: ${reason}`, `closed: ${reason}`]);
        await within(10_000, child.status);
        await within(10_000, source.closed);
      } finally {
        await endChild(child);
        await source.close();
      }
    };
    await run();
    const before = countDescriptors();
    await run();
    await until(() => countDescriptors() <= before + 4, "nothing is left open");
  });
}
