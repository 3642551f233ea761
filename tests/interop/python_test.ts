// CPython's formats, held against CPython itself: multiprocessing's messages and descriptors, and socket's.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { connect, listen, Listener, Socket, WinsockError } from "@winsock/handoff";
import {
  DescriptorChannel,
  encodePythonMessage,
  type PassedSockets,
  readPythonMessages,
} from "@winsock/handoff/interop";
import { connection, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { fcntl } from "../../ffi/unix/descriptors.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";
import { haveProgram } from "../kit/programs.ts";

const ignore = !haveProgram("python3");
const linux = Deno.build.os === "linux";

/** Runs a Python program with the bytes on its stdin, and returns its stdout. */
async function python(program: string, input: Uint8Array = new Uint8Array(0)): Promise<Uint8Array<ArrayBuffer>> {
  const child = new Deno.Command("python3", { args: ["-c", program], stdin: "piped", stdout: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(input);
  await writer.close();
  const { success, stdout } = await within(20_000, child.output());
  assert(success);
  return stdout;
}

/** Starts a Python program that has the other end of a channel as descriptor 3. */
function withChannel(program: string): { channel: DescriptorChannel; output: Promise<string> } {
  const { near: channel, far } = DescriptorChannel.pair();
  const child = spawn("python3", ["-c", program], { stdio: ["ignore", "pipe", "inherit", Number(far.handle)] });
  far.close();
  const output = within(20_000, Promise.all([text(child.stdout!), once(child, "exit")])).then(([printed]) => printed);
  output.catch(() => {});
  return { channel, output };
}

/** Bytes as a stream of chunks of one length. */
function streamOf(bytes: Uint8Array, chunk: number): ReadableStream<Uint8Array> {
  return ReadableStream.from((function* () {
    for (let start = 0; start < bytes.byteLength; start += chunk) yield bytes.slice(start, start + chunk);
  })());
}

Deno.test({
  name: "a message is byte for byte what Connection.send_bytes writes, and what recv_bytes reads",
  ignore,
  fn: async () => {
    const sizes = [0, 1, 628, 16_384, 16_385, 65_536];
    const written = await python(`
from multiprocessing.connection import Connection
connection = Connection(1, readable=False)
for size in ${JSON.stringify(sizes)}: connection.send_bytes(bytes(index % 251 for index in range(size)))
`);
    const messages = sizes.map((size) => Uint8Array.from({ length: size }, (_, index) => index % 251));
    const encoded = new Uint8Array(await new Blob(messages.map(encodePythonMessage)).arrayBuffer());
    assertEquals(encoded, written);
    for (const chunk of [3, 700, 100_000]) {
      assertEquals(await Array.fromAsync(readPythonMessages(streamOf(written, chunk))), messages);
    }
    const read = await python(
      `
from multiprocessing.connection import Connection
connection = Connection(0, writable=False)
for size in ${JSON.stringify(sizes)}: print(len(connection.recv_bytes()))
`,
      encoded,
    );
    assertEquals(new TextDecoder().decode(read), sizes.map((size) => `${size}\n`).join(""));
  },
});

Deno.test("what is no message of Python's is refused", async () => {
  const read = (bytes: number[]) => Array.fromAsync(readPythonMessages(streamOf(new Uint8Array(bytes), 1)));
  assertEquals(await read([]), []);
  await assertRejects(() => read([0, 0]), Deno.errors.UnexpectedEof, "ended after 2 bytes");
  await assertRejects(() => read([0, 0, 0, 2, 1]), Deno.errors.UnexpectedEof, "ended after 5 bytes");
  await assertRejects(() => read([0, 1, 0, 1]), RangeError, "must have at most 65536 bytes, got 65537");
  await assertRejects(() => read([255, 255, 255, 255]), RangeError, "got -1");
  await assertRejects(() => Promise.try(() => encodePythonMessage(new Uint8Array(65_537))), RangeError);
});

Deno.test({
  name: "Python receives our sockets with recvfds, recv_handle and recv_fds, and uses them",
  ignore,
  fn: async () => {
    const { channel, output } = withChannel(`
import os, socket, multiprocessing.reduction as reduction
from multiprocessing.connection import Connection
print(os.get_blocking(3))
channel = socket.socket(fileno=3)
listener, client = (socket.socket(fileno=fd) for fd in reduction.recvfds(channel, 2))
print(listener.getsockname()[1], listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), flush=True)
client.sendall(b"hello from Python")
again = socket.socket(fileno=reduction.recv_handle(Connection(os.dup(3))))
print(again.getsockname()[1])
data, [fd], flags, address = socket.recv_fds(channel, 10, 1)
print(data, flags & socket.MSG_CTRUNC, socket.socket(fileno=fd).getsockname()[1])
`);
    using _channel = channel;
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    using pair = await connection();
    using client = pair.client.toConn();
    await channel.send([listener, pair.server]);
    await channel.send([listener]);
    assertEquals(await readText(client, 17), "hello from Python");
    await channel.send([listener]);
    const { port } = listener.addr;
    assertEquals(await output, `True\n${port} 1\n${port}\nb'\\x01' 0 ${port}\n`);
  },
});

Deno.test({
  name: "we receive what Python sends with sendfds, send_handle and send_fds",
  ignore,
  fn: async () => {
    const { channel, output } = withChannel(`
import os, socket, multiprocessing.reduction as reduction
from multiprocessing.connection import Connection
channel = socket.socket(fileno=3)
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, peer = listener.accept()
reduction.sendfds(channel, [listener.fileno(), server.fileno()])
reduction.send_handle(Connection(os.dup(3)), listener.fileno(), None)
socket.send_fds(channel, [b"\\x03"], [listener.fileno()] * 3)
listener.close(); server.close()
client.sendall(b"ping")
print(client.recv(4), client.recv(1))
`);
    using _channel = channel;
    using first = await within(10_000, channel.receive());
    assertEquals(first?.length, 2);
    using listener = first!.takeListener(0);
    using socket = first!.takeSocket(1);
    assert(listener instanceof Listener && socket instanceof Socket);
    using second = await within(10_000, channel.receive(1));
    assertEquals(second!.takeListener(0)?.addr, listener.addr);
    using third = await within(10_000, channel.receive(3));
    assertEquals(third?.length, 3);
    using conn = socket.toConn();
    assertEquals(await readText(conn, 4), "ping");
    await writeText(conn, "pong");
    conn.close();
    assertEquals(await output, "b'pong' b''\n");
    assertEquals(await within(10_000, channel.receive()), undefined);
    using client = await connect({ port: listener.addr.port });
    using accepted = await within(10_000, listener.accept());
    assertEquals(accepted.remoteAddr, client.localAddr);
  },
});

Deno.test({
  name: "messages with other descriptors than announced are refused, and nothing stays open",
  ignore,
  fn: async () => {
    const before = countDescriptors();
    {
      const { channel, output } = withChannel(`
import socket
channel = socket.socket(fileno=3)
listener = socket.create_server(("127.0.0.1", 0))
socket.send_fds(channel, [b"\\x02"], [listener.fileno()])
socket.send_fds(channel, [b"\\x01"], [listener.fileno()] * 2)
channel.sendall(b"\\x01")
socket.send_fds(channel, [b"\\x03"], [listener.fileno()] * 3)
socket.send_fds(channel, [b"\\x02"], [listener.fileno()] * 3)
socket.send_fds(channel, [b"\\x02"], [listener.fileno()] * 2)
`);
      using _channel = channel;
      await assertRejects(() => channel.receive(), RangeError, "announced 2 descriptors, got 1");
      await assertRejects(() => channel.receive(), RangeError, "announced 1 descriptors, got 2");
      await assertRejects(() => channel.receive(), RangeError, "announced 1 descriptors, got 0");
      await assertRejects(() => channel.receive(2), RangeError, "announced 3 descriptors, got more than 2");
      await assertRejects(() => channel.receive(2), RangeError, "announced 2 descriptors, got more than 2");
      using passed: PassedSockets | undefined = await channel.receive(2);
      assertEquals(passed?.length, 2);
      assertEquals(await output, "");
    }
    await until(() => countDescriptors() === before, "the descriptors are closed");
  },
});

Deno.test({
  name: "a local connection that becomes a channel accepts descriptors from then on",
  ignore: !linux || needs("abstract names").ignore,
  fn: async () => {
    const path = `\0handoff-test-${crypto.randomUUID()}`;
    using listener = listen({ path });
    using client = new DescriptorChannel((await connect({ path })).detach());
    using server = new DescriptorChannel((await within(20_000, listener.accept())).detach());
    for (const [from, to] of [[client, server], [server, client]] as const) {
      await from.send([listener]);
      using passed = await within(20_000, to.receive());
      using copy = passed!.takeListener<Deno.UnixAddr>(0);
      assertEquals(copy?.addr, listener.addr);
    }
  },
});

Deno.test({
  name: "a channel between two of ours: a full one is waited for, a closed one is an error",
  ignore: !linux,
  fn: async () => {
    const before = countDescriptors();
    {
      using listener = listen({ hostname: "127.0.0.1", port: 0 });
      const { near, far } = DescriptorChannel.pair();
      const blocks = (handle: bigint) => (fcntl(handle, 3) & 0o4000) === 0;
      assertEquals([blocks(near.handle), blocks(far.handle)], [false, true]);
      const received = (async () => {
        let count = 0;
        for (let message = await far.receive(); message !== undefined; message = await far.receive()) {
          count += message.length;
          message.close();
        }
        return count;
      })();
      for (let message = 0; message < 500; message++) await near.send([listener, listener]);
      await assertRejects(
        () => near.send([]),
        RangeError,
        "Invalid `sockets.length`: must be an integer from 1 to 253, got 0",
      );
      await assertRejects(
        () => near.send(Array(254).fill(listener)),
        RangeError,
        "must be an integer from 1 to 253, got 254",
      );
      const pending = near.receive();
      await Promise.resolve();
      near.close();
      await assertRejects(() => pending, Deno.errors.BadResource);
      assertEquals(await within(20_000, received), 1_000);
      await assertRejects(() => far.send([listener]), WinsockError, "WSAESHUTDOWN");
      far.close();
      far.close();
      await assertRejects(() => far.send([listener]), Deno.errors.BadResource);
    }
    assertEquals(countDescriptors(), before);
  },
});
