import { assertEquals, assertThrows } from "@std/assert";
import { formatGuid, parseGuid, SOCKADDR_IN, SOCKADDR_IN6, WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";

/** Offsets as the documentation and mingw-w64's headers have them. */
const OFFSETS = {
  dwServiceFlags1: 0,
  dwServiceFlags2: 4,
  dwServiceFlags3: 8,
  dwServiceFlags4: 12,
  dwProviderFlags: 16,
  ProviderId: 20,
  dwCatalogEntryId: 36,
  ProtocolChain: 40,
  iVersion: 72,
  iAddressFamily: 76,
  iMaxSockAddr: 80,
  iMinSockAddr: 84,
  iSocketType: 88,
  iProtocol: 92,
  iProtocolMaxOffset: 96,
  iNetworkByteOrder: 100,
  iSecurityScheme: 104,
  dwMessageSize: 108,
  dwProviderReserved: 112,
  szProtocol: 116,
};

Deno.test("WSAPROTOCOL_INFOW has the documented size and offsets", () => {
  assertEquals(WSAPROTOCOL_INFOW.size, 628);
  assertEquals(Object.fromEntries(WSAPROTOCOL_INFOW.fields.map(({ name, offset }) => [name, offset])), OFFSETS);
});

Deno.test("WSAPROTOCOL_INFOW decodes each field from its own bytes", () => {
  const bytes = new Uint8Array(628);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x20066, true);
  view.setUint32(8, 0xfedcba98, true);
  bytes.set([0xa0, 0x1a, 0x0f, 0xe7, 0x8b, 0xab, 0xcf, 0x11, 0x8c, 0xa3, 0x00, 0x80, 0x5f, 0x48, 0xa1, 0x92], 20);
  view.setInt32(40, 3, true);
  [1001, 1002, 1003, 0, 0, 0, 77].forEach((entry, index) => view.setUint32(44 + index * 4, entry, true));
  view.setInt32(76, -2, true);
  view.setUint32(112, 0xdeadbeef, true);
  [..."TCP/IP"].forEach((letter, index) => view.setUint16(116 + index * 2, letter.charCodeAt(0), true));
  const info = WSAPROTOCOL_INFOW.decode(bytes);
  assertEquals(info.dwServiceFlags1, 0x20066);
  assertEquals(info.dwServiceFlags3, 0xfedcba98);
  assertEquals(info.ProviderId, "e70f1aa0-ab8b-11cf-8ca3-00805f48a192");
  assertEquals(info.ProtocolChain, { ChainLen: 3, ChainEntries: [1001, 1002, 1003, 0, 0, 0, 77] });
  assertEquals(info.iAddressFamily, -2);
  assertEquals(info.dwProviderReserved, 0xdeadbeef);
  assertEquals(info.szProtocol, "TCP/IP");
  assertEquals(WSAPROTOCOL_INFOW.encode(info), bytes);
});

Deno.test("WSAPROTOCOL_INFOW keeps every byte, behind the NUL and unpaired surrogates too", () => {
  let seed = 1;
  const random = () => (seed = Math.imul(seed, 1664525) + 1013904223 >>> 0) >>> 24;
  for (let round = 0; round < 2_000; round++) {
    const bytes = Uint8Array.from({ length: 628 }, random);
    new DataView(bytes.buffer).setInt32(40, random() % 8, true);
    if (round % 2 === 0) bytes.fill(0, 116 + random());
    assertEquals(WSAPROTOCOL_INFOW.encode(WSAPROTOCOL_INFOW.decode(bytes)), bytes);
  }
});

Deno.test("WSAPROTOCOL_INFOW encodes into a reused buffer and clears what stood there", () => {
  const info = { ...WSAPROTOCOL_INFOW.decode(new Uint8Array(628)), szProtocol: "a" };
  const buffer = new Uint8Array(700).fill(255);
  assertEquals(WSAPROTOCOL_INFOW.encode(info, buffer), WSAPROTOCOL_INFOW.encode(info));
  assertEquals(buffer.subarray(628), new Uint8Array(72).fill(255));
});

Deno.test("WSAPROTOCOL_INFOW refuses what it cannot hold, and says where", () => {
  for (const length of [0, 372, 627, 629]) {
    const message = `Cannot decode WSAPROTOCOL_INFOW: expected 628 bytes, got ${length}`;
    assertThrows(() => WSAPROTOCOL_INFOW.decode(new Uint8Array(length)), RangeError, message);
  }
  for (const length of [-1, 8]) {
    const bytes = new Uint8Array(628);
    new DataView(bytes.buffer).setInt32(40, length, true);
    const message = `ProtocolChain at offset 40: ChainLen ${length} is not between 0 and 7`;
    assertThrows(() => WSAPROTOCOL_INFOW.decode(bytes), RangeError, message);
  }
  const info = WSAPROTOCOL_INFOW.decode(new Uint8Array(628));
  const encode = (change: Partial<WSAPROTOCOL_INFOW>) => () => WSAPROTOCOL_INFOW.encode({ ...info, ...change });
  assertThrows(
    encode({ dwServiceFlags1: -1 }),
    RangeError,
    "dwServiceFlags1 at offset 0: -1 is not an unsigned 32-bit",
  );
  assertThrows(encode({ iVersion: 2 ** 31 }), RangeError, "iVersion at offset 72: 2147483648 is not a signed 32-bit");
  assertThrows(encode({ ProviderId: "nonsense" }), RangeError, 'ProviderId at offset 20: "nonsense" is not a GUID');
  assertThrows(encode({ szProtocol: "x".repeat(257) }), RangeError, "szProtocol at offset 116: Expected at most 256");
  assertThrows(() => WSAPROTOCOL_INFOW.encode(info, new Uint8Array(627)), RangeError, "room for 628 bytes, got 627");
});

Deno.test("GUIDs go both ways as text", () => {
  const text = "e70f1aa0-ab8b-11cf-8ca3-00805f48a192";
  assertEquals(formatGuid(parseGuid(text)), text);
  assertEquals(parseGuid(`{${text.toUpperCase()}}`), parseGuid(text));
  assertEquals([...parseGuid(text).subarray(0, 8)], [0xa0, 0x1a, 0x0f, 0xe7, 0x8b, 0xab, 0xcf, 0x11]);
  assertThrows(() => parseGuid(text.slice(1)), RangeError, "is not a GUID");
  assertThrows(() => formatGuid(new Uint8Array(15)), RangeError, "expected 16 bytes, got 15");
});

Deno.test("socket addresses have the port in network order", () => {
  const v4 = SOCKADDR_IN.encode({
    sin_family: 2,
    sin_port: 0x1f90,
    sin_addr: Uint8Array.of(127, 0, 0, 1),
    sin_zero: new Uint8Array(8),
  });
  assertEquals([...v4], [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(SOCKADDR_IN.decode(v4).sin_port, 8080);
  assertEquals(SOCKADDR_IN6.size, 28);
  assertEquals(Object.fromEntries(SOCKADDR_IN6.fields.map(({ name, offset }) => [name, offset])), {
    sin6_family: 0,
    sin6_port: 2,
    sin6_flowinfo: 4,
    sin6_addr: 8,
    sin6_scope_id: 24,
  });
  assertThrows(() => SOCKADDR_IN6.decode(v4), RangeError, "expected 28 bytes, got 16");
});
