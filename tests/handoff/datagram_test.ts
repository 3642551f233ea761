// UDP sockets on their way to other processes.
import { assertEquals, assertRejects } from "@std/assert";
import { type DatagramSocket, duplicateSocket, HandoffError, HandoffSource, openSocket } from "@winsock/handoff";
import { ADDRESSES } from "../kit/connections.ts";
import { datagramSocket, receiveText, sendText } from "../kit/datagrams.ts";
import { settledDescriptors } from "../kit/descriptors.ts";
import { killed } from "../kit/handoffs.ts";
import { endChild, lines, spawnChild, until, within } from "../kit/process.ts";

async function withEcho(
  test: (source: HandoffSource, line: () => Promise<string | undefined>, child: Deno.ChildProcess) => Promise<void>,
  ...args: string[]
): Promise<void> {
  const child = spawnChild("datagram_echo.ts", args);
  try {
    await test(new HandoffSource(child), lines(child), child);
  } finally {
    await endChild(child);
  }
}

/** One more descriptor of a socket, to be given away. */
async function copyOf(socket: DatagramSocket): Promise<DatagramSocket> {
  return await openSocket(duplicateSocket(socket, Deno.pid)) as DatagramSocket;
}

for (const hostname of ADDRESSES) {
  Deno.test(`${hostname}: a UDP socket goes to a child, which answers on it`, async () => {
    await withEcho(async (source, line, child) => {
      const socket = datagramSocket(hostname);
      const { addr } = socket;
      using client = datagramSocket(hostname);
      await sendText(client, "sent before", addr);
      await within(20_000, source.send(socket, { data: { name: "echo" } }));
      assertEquals(JSON.parse(await line() ?? ""), { pid: child.pid, data: { name: "echo" }, addr });
      assertEquals(await receiveText(client), [`${child.pid} sent before`, addr]);
      await assertRejects(() => socket.receive(), Deno.errors.BadResource);
      for (const text of ["", "more", "close"]) {
        await sendText(client, text, addr);
        assertEquals(await receiveText(client), [`${child.pid} ${text}`, addr]);
      }
      await within(20_000, source.close());
      assertEquals(await line(), "end");
    });
  });
}

Deno.test("a target that does not ask for datagram sockets rejects them", async () => {
  await withEcho(async (source) => {
    using socket = datagramSocket();
    using client = datagramSocket();
    const sending = source.send(socket);
    const error = await assertRejects(() => within(20_000, sending), HandoffError, "takes no datagram sockets");
    assertEquals(error.outcome, "rejected");
    await sendText(client, "still here", socket.addr);
    assertEquals((await receiveText(socket))[0], "still here");
    await assertRejects(() => source.send(socket, { initialBytes: new Uint8Array(1) }), TypeError, "not a connection");
  }, "connections only");
});

Deno.test("a UDP socket whose target dies is still the source's", async () => {
  await withEcho(async (source, _line, child) => {
    await within(20_000, source.ready);
    child.kill("SIGKILL");
    using socket = datagramSocket();
    const error = await assertRejects(() => within(20_000, source.send(socket)), HandoffError);
    assertEquals([error.outcome, error.reason], ["target-exited", killed(child)]);
    using client = datagramSocket();
    await sendText(client, "still here", socket.addr);
    assertEquals((await receiveText(socket))[0], "still here");
  });
});

Deno.test("where two processes receive on one socket, each datagram goes to one of them", async () => {
  await withEcho(async (source, line, child) => {
    using socket = datagramSocket();
    await within(20_000, source.send(await copyOf(socket)));
    await line();
    const answering = (async () => {
      for await (const [bytes, sender] of socket) {
        await sendText(socket, `${Deno.pid} ${new TextDecoder().decode(bytes)}`, sender);
      }
    })();
    using client = datagramSocket();
    const answers = new Map<string, number>();
    let rounds = 0;
    const both = [String(Deno.pid), String(child.pid)];
    for (; rounds < 300; rounds++) {
      await sendText(client, String(rounds), socket.addr);
      const [pid, number] = (await receiveText(client))[0].split(" ");
      assertEquals([both.includes(pid!), number], [true, String(rounds)]);
      answers.set(pid!, (answers.get(pid!) ?? 0) + 1);
    }
    assertEquals([...answers.values()].reduce((sum, count) => sum + count), rounds);
    socket.close();
    await within(20_000, answering);
    const more = client.receive().then(() => true, () => false);
    await new Promise((resolve) => setTimeout(resolve, 200));
    client.close();
    assertEquals(await more, false, "a datagram was answered twice");
  });
});

Deno.test("100 UDP sockets handed over leave both processes with the descriptors they had", async () => {
  await withEcho(async (source, line, child) => {
    (async () => {
      while (await line() !== undefined);
    })().catch(() => {});
    using client = datagramSocket();
    const handOver = async (count: number) => {
      for (let done = 0; done < count; done++) {
        const socket = datagramSocket();
        const { addr } = socket;
        await within(20_000, source.send(socket));
        await sendText(client, "close", addr);
        assertEquals(await receiveText(client), [`${child.pid} close`, addr]);
      }
    };
    // On Windows each of the 64 decisions is made when it is first needed.
    await handOver(70);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const before = await settledDescriptors(Deno.pid, child.pid);
    await handOver(100);
    await until(async () => {
      const after = await settledDescriptors(Deno.pid, child.pid);
      return after.every((count, index) => count <= before[index]!);
    }, `there are ${before} descriptors in the two processes again`);
  });
});
