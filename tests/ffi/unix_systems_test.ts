// What the tables say of each Unix, held against its published headers and against the system the tests run on.
import { assertEquals, assertThrows } from "@std/assert";
import os from "node:os";
import { AddressCodec } from "../../ffi/socket_address.ts";
import { encodeExitEvent } from "../../ffi/unix/process.ts";
import { libc, unixSystem } from "../../ffi/unix/libc.ts";
import { encodeLocalAddress } from "../../ffi/unix/local_sockets.ts";
import { MessageBlock } from "../../ffi/unix/scm_rights.ts";
import { DARWIN } from "../../ffi/unix/darwin.ts";
import { LINUX } from "../../ffi/unix/linux.ts";
import golden from "../golden/darwin.json" with { type: "json" };
import { needs } from "../kit/needs.ts";
import { FFI_GRANT } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const ADDRESS = 0x1122_3344_5566_0000n;

/** What accept(2) has treated like EAGAIN, beside that and EINTR. */
const ACCEPT_AGAIN = [
  "ECONNABORTED",
  "ENETDOWN",
  "EPROTO",
  "ENOPROTOOPT",
  "EHOSTDOWN",
  "ENONET",
  "EHOSTUNREACH",
  "EOPNOTSUPP",
  "ENETUNREACH",
];

/** The headers' names of what the library calls otherwise. */
const OTHER_NAMES: Record<string, string> = {
  TCP_KEEPIDLE: "TCP_KEEPALIVE",
  SO_LINGER: "SO_LINGER_SEC",
  LISTENER: "SO_REUSEADDR",
  IPV6_ADD_MEMBERSHIP: "IPV6_JOIN_GROUP",
  IPV6_DROP_MEMBERSHIP: "IPV6_LEAVE_GROUP",
};

/** Every number in the table of macOS by its name in the headers; an option's is its level and its number. */
function numbersOfDarwin(): [name: string, number: number | readonly number[]][] {
  const { options, lingerWidth: _, hasTimeval: __, ...constants } = DARWIN.berkeley;
  const optionNumbers = Object.entries(options).filter(([, numbers]) => numbers !== undefined);
  const named = [...Object.entries(constants), ...optionNumbers] as [string, number | readonly number[]][];
  const { SOL_SOCKET, MSG_DONTWAIT, MSG_CTRUNC, F_DUPFD_CLOEXEC, PEER_PROCESS, mostDescriptors } = DARWIN;
  const { O_NONBLOCK, O_APPEND, O_CLOEXEC } = DARWIN;
  return [
    ...named.map(([name, number]): [string, number | readonly number[]] => [OTHER_NAMES[name] ?? name, number]),
    ...Object.entries(DARWIN.errno).filter((entry): entry is [string, number] => entry[1] !== undefined),
    ...Object.entries({ SOL_SOCKET, MSG_DONTWAIT, MSG_CTRUNC, O_NONBLOCK, O_APPEND, O_CLOEXEC, F_DUPFD_CLOEXEC }),
    ["LOCAL_PEERPID", PEER_PROCESS],
    ["UIPC_MAX_CMSG_FD", mostDescriptors],
  ];
}

function levelOf(name: string): number {
  const { IPPROTO_IP, IPPROTO_TCP, IPPROTO_IPV6 } = golden["bsd/netinet/in.h"];
  const levels = { IP: IPPROTO_IP, IPV6: IPPROTO_IPV6, TCP: IPPROTO_TCP, SO: DARWIN.SOL_SOCKET, LOCAL: 0 };
  return levels[name.split("_")[0] as keyof typeof levels];
}

Deno.test("the numbers of macOS are those of Apple's published headers", () => {
  const headers: Record<string, number> = Object.assign({}, ...Object.values(golden));
  const numbers = numbersOfDarwin();
  for (const [name, number] of numbers) {
    assertEquals(number, typeof number === "number" ? headers[name] : [levelOf(name), headers[name]!], name);
  }
  assertEquals(golden["bsd/sys/un.h"].SOL_LOCAL, 0);
  const { SO_REUSEADDR, SO_REUSEPORT } = golden["bsd/sys/socket.h"];
  assertEquals(DARWIN.SHARED_DATAGRAM.map(([, optname]) => optname), [SO_REUSEADDR, SO_REUSEPORT]);
  // The rest of the headers' names are levels, and an option that stands under two names.
  assertEquals(Object.keys(headers).length, new Set(numbers.map(([name]) => name)).size + 4);
});

Deno.test("the errors are numbered as this system numbers them", needs("the unix provider"), () => {
  const system = os.constants.errno as Record<string, number>;
  for (const [name, number] of Object.entries(unixSystem().errno)) {
    if (name in system) assertEquals(number, system[name], name);
  }
});

Deno.test("an error of the network that comes with a connection does not end accepting", {
  ignore: Deno.build.os !== "linux" || unixSystem() !== LINUX,
}, async () => {
  // What the system says of a socket that does not listen, EINVAL, is taken for one error after the other.
  const said = await runCode(
    `
    import { acceptNow, newSocket } from ${moduleUrl("ffi/unix/descriptors.ts")};
    import { useUnixSystem } from ${moduleUrl("ffi/unix/libc.ts")};
    import { LINUX } from ${moduleUrl("ffi/unix/linux.ts")};
    const errno = { ...LINUX.errno, EINVAL: 9999 };
    useUnixSystem({ ...LINUX, errno });
    const socket = newSocket(2, 1);
    for (const name of ${JSON.stringify([...ACCEPT_AGAIN, "EMFILE", "EPERM"])}) {
      const number = errno[name];
      errno[name] = 22;
      try { acceptNow(socket); } catch { console.log(name); }
      errno[name] = number;
    }`,
    FFI_GRANT,
  );
  assertEquals(said.split("\n"), ["EMFILE", "EPERM"]);
});

Deno.test("a message of macOS: 4-byte lengths, and descriptors right behind a header of 12 bytes", () => {
  const block = new MessageBlock(DARWIN, 1, 8);
  block.encode(ADDRESS, new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]), [42n]);
  const view = new DataView(block.bytes.buffer);
  assertEquals(block.bytes.byteLength, 48 + 16 + 16 + 8);
  // struct msghdr: no name, one iovec, the control message, no flags
  assertEquals([view.getBigUint64(0, true), view.getUint32(8, true)], [0n, 0]);
  assertEquals([view.getBigUint64(16, true), view.getInt32(24, true)], [ADDRESS + 48n, 1]);
  assertEquals([view.getBigUint64(32, true), view.getUint32(40, true), view.getInt32(44, true)], [
    ADDRESS + 64n,
    16,
    0,
  ]);
  // struct iovec
  assertEquals([view.getBigUint64(48, true), view.getBigUint64(56, true)], [ADDRESS + 80n, 8n]);
  // struct cmsghdr: cmsg_len, SOL_SOCKET, SCM_RIGHTS, the descriptor
  const control = [64, 68, 72, 76].map((offset) => view.getInt32(offset, true));
  assertEquals(control, [16, 0xffff, 1, 42]);
  assertEquals([...block.bytes.subarray(80)], [1, 2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("a message of Linux: 8-byte lengths, and descriptors behind a header of 16 bytes", () => {
  const block = new MessageBlock(LINUX, 2, 1);
  block.encode(ADDRESS, new Uint8Array([9]), [3n, 4n]);
  const view = new DataView(block.bytes.buffer);
  assertEquals(block.bytes.byteLength, 56 + 16 + 24 + 1);
  const lengths = [24, 40, 64, 72].map((offset) => view.getBigUint64(offset, true));
  assertEquals(lengths, [1n, 24n, 1n, 24n]);
  const addresses = [16, 32, 56].map((offset) => view.getBigUint64(offset, true));
  assertEquals(addresses, [ADDRESS + 56n, ADDRESS + 72n, ADDRESS + 96n]);
  const control = [80, 84, 88, 92].map((offset) => view.getInt32(offset, true));
  assertEquals(control, [1, 1, 3, 4]);
});

for (const system of [LINUX, DARWIN]) {
  Deno.test(`a message of ${system.name} is read as it was written, and without descriptors names no room for them`, () => {
    const block = new MessageBlock(system, 3, 4);
    block.encode(ADDRESS, new Uint8Array([1, 2]), [7n, 8n]);
    assertEquals(block.decode(2), { bytes: new Uint8Array([1, 2]), descriptors: [7n, 8n], truncated: false });
    block.encode(ADDRESS, new Uint8Array([5]), []);
    assertEquals(new DataView(block.bytes.buffer).getBigUint64(32, true), 0n);
    assertEquals(block.decode(1), { bytes: new Uint8Array([5]), descriptors: [], truncated: false });
  });
}

Deno.test("of a message that macOS cut short, the descriptors that came are read", () => {
  const block = new MessageBlock(DARWIN, 2, 1);
  block.encode(ADDRESS, new Uint8Array(1), [7n, 8n]);
  const view = new DataView(block.bytes.buffer);
  view.setUint32(48 + 16, 12 + 5 * 4, true);
  view.setInt32(44, DARWIN.MSG_CTRUNC, true);
  assertEquals(block.decode(0), { bytes: new Uint8Array(0), descriptors: [7n, 8n], truncated: true });
});

Deno.test("addresses of macOS begin with their length", needs("the unix provider"), () => {
  // inet_pton of this system, which has another number for IPv6.
  const family = (number: number) => number === DARWIN.berkeley.AF_INET6 ? unixSystem().berkeley.AF_INET6 : number;
  const codec = new AddressCodec(
    {
      inet_pton: (number, text, address) => libc().inet_pton(family(number), text, address),
      inet_ntop: (number, address, text, size) => libc().inet_ntop(family(number), address, text, size),
    },
    DARWIN.berkeley.AF_INET6,
    DARWIN,
  );
  const v4 = codec.encode({ hostname: "127.0.0.1", port: 0x1234 });
  assertEquals([...v4], [16, 2, 0x12, 0x34, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(codec.decode(v4), { transport: "tcp", hostname: "127.0.0.1", port: 0x1234 });
  const v6 = codec.encode({ hostname: "fe80::1%3", port: 80 });
  assertEquals([...v6.subarray(0, 10)], [28, 30, 0, 80, 0, 0, 0, 0, 0xfe, 0x80]);
  assertEquals(codec.decode(v6), { transport: "tcp", hostname: "fe80::1%3", port: 80 });
  assertEquals(codec.decode(encodeLocalAddress("/tmp/s", DARWIN)), { transport: "unix", path: "/tmp/s" });
  const unnamed = new Uint8Array(16);
  unnamed.set([16, 1]);
  assertEquals(codec.decode(unnamed), { transport: "unix", path: "" });
});

Deno.test("a local address of macOS has a length, 103 bytes at most, and no abstract name", () => {
  assertEquals([...encodeLocalAddress("/s", DARWIN)], [5, 1, 0x2f, 0x73, 0]);
  assertEquals(encodeLocalAddress("x".repeat(103), DARWIN).byteLength, 106);
  assertThrows(() => encodeLocalAddress("x".repeat(104), DARWIN), RangeError, "Invalid `path`: must have at most");
  assertThrows(() => encodeLocalAddress("\0x", DARWIN), Deno.errors.NotSupported, "macOS does not have abstract names");
  assertEquals([...encodeLocalAddress("\0x", LINUX)], [1, 0, 0, 0x78]);
});

Deno.test("struct kevent asks for the end of a process", () => {
  const event = new Uint8Array(32);
  const view = new DataView(event.buffer);
  view.setBigUint64(0, 4242n, true); // ident
  view.setInt16(8, -5, true); // EVFILT_PROC
  view.setUint16(10, 1, true); // EV_ADD
  view.setUint32(12, 0x80000000, true); // NOTE_EXIT
  assertEquals(encodeExitEvent(4242), event);
});
