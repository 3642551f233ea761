/**
 * The codec of WSAPROTOCOL_INFOW against code written by hand for its 628 bytes, and against other libraries that lay out
 * C structures: all decode to the same values and encode the same ones. Every figure is the median of its rounds, taken
 * in turn within one run, so that what slows the machine slows all.
 *
 * @module
 */
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { assertEquals } from "@std/assert";
import koffi from "npm:koffi@3.3.4";
import { Struct } from "npm:typed-struct@2.7.3";
import { Buffer } from "node:buffer";
import blobs from "../tests/golden/blobs.json" with { type: "json" };

const ROUNDS = 15;
const BYTES = Uint8Array.fromHex(blobs.WSAPROTOCOL_INFOW);
const INFO = WSAPROTOCOL_INFOW.decode(BYTES);
const INTO = new Uint8Array(628);

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** All fields, as one writes it by hand: offsets as literals, the GUID as text, the name up to its zeros. */
function decodeByHand(bytes: Uint8Array): WSAPROTOCOL_INFOW {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const b = (offset: number) => HEX[view.getUint8(offset)]!;
  const entries = [];
  for (let offset = 44; offset < 72; offset += 4) entries.push(view.getUint32(offset, true));
  let end = 628;
  while (end > 116 && view.getUint16(end - 2, true) === 0) end -= 2;
  let name = "";
  for (let offset = 116; offset < end; offset += 2) name += String.fromCharCode(view.getUint16(offset, true));
  return {
    dwServiceFlags1: view.getUint32(0, true),
    dwServiceFlags2: view.getUint32(4, true),
    dwServiceFlags3: view.getUint32(8, true),
    dwServiceFlags4: view.getUint32(12, true),
    dwProviderFlags: view.getUint32(16, true),
    ProviderId: `${b(23)}${b(22)}${b(21)}${b(20)}-${b(25)}${b(24)}-${b(27)}${b(26)}-${b(28)}${b(29)}-` +
      `${b(30)}${b(31)}${b(32)}${b(33)}${b(34)}${b(35)}`,
    dwCatalogEntryId: view.getUint32(36, true),
    ProtocolChain: { ChainLen: view.getInt32(40, true), ChainEntries: entries },
    iVersion: view.getInt32(72, true),
    iAddressFamily: view.getInt32(76, true),
    iMaxSockAddr: view.getInt32(80, true),
    iMinSockAddr: view.getInt32(84, true),
    iSocketType: view.getInt32(88, true),
    iProtocol: view.getInt32(92, true),
    iProtocolMaxOffset: view.getInt32(96, true),
    iNetworkByteOrder: view.getInt32(100, true),
    iSecurityScheme: view.getInt32(104, true),
    dwMessageSize: view.getUint32(108, true),
    dwProviderReserved: view.getUint32(112, true),
    szProtocol: name,
  };
}

/** All fields, by hand, into a buffer that is used again. */
function encodeByHand(info: WSAPROTOCOL_INFOW, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  view.setUint32(0, info.dwServiceFlags1, true);
  view.setUint32(4, info.dwServiceFlags2, true);
  view.setUint32(8, info.dwServiceFlags3, true);
  view.setUint32(12, info.dwServiceFlags4, true);
  view.setUint32(16, info.dwProviderFlags, true);
  const hex = info.ProviderId;
  view.setUint32(20, parseInt(hex.slice(0, 8), 16), true);
  view.setUint16(24, parseInt(hex.slice(9, 13), 16), true);
  view.setUint16(26, parseInt(hex.slice(14, 18), 16), true);
  view.setUint16(28, parseInt(hex.slice(19, 23), 16), false);
  view.setUint16(30, parseInt(hex.slice(24, 28), 16), false);
  view.setUint32(32, parseInt(hex.slice(28), 16), false);
  view.setUint32(36, info.dwCatalogEntryId, true);
  view.setInt32(40, info.ProtocolChain.ChainLen, true);
  for (let index = 0; index < 7; index++) view.setUint32(44 + index * 4, info.ProtocolChain.ChainEntries[index]!, true);
  view.setInt32(72, info.iVersion, true);
  view.setInt32(76, info.iAddressFamily, true);
  view.setInt32(80, info.iMaxSockAddr, true);
  view.setInt32(84, info.iMinSockAddr, true);
  view.setInt32(88, info.iSocketType, true);
  view.setInt32(92, info.iProtocol, true);
  view.setInt32(96, info.iProtocolMaxOffset, true);
  view.setInt32(100, info.iNetworkByteOrder, true);
  view.setInt32(104, info.iSecurityScheme, true);
  view.setUint32(108, info.dwMessageSize, true);
  view.setUint32(112, info.dwProviderReserved, true);
  const name = info.szProtocol;
  for (let index = 0; index < name.length; index++) view.setUint16(116 + index * 2, name.charCodeAt(index), true);
  into.fill(0, 116 + name.length * 2);
}

// Their forms of GUID and name are their own; they do no more work for it.
const KOFFI = koffi.struct("WSAPROTOCOL_INFOW", {
  head: koffi.array("uint32_t", 5),
  ProviderId: koffi.array("uint8_t", 16),
  dwCatalogEntryId: "uint32_t",
  ChainLen: "int32_t",
  ChainEntries: koffi.array("uint32_t", 7),
  numbers: koffi.array("int32_t", 9),
  dwMessageSize: "uint32_t",
  dwProviderReserved: "uint32_t",
  szProtocol: koffi.array("char16_t", 256, "String"),
});
const koffiValue = koffi.decode(BYTES, KOFFI);

const TypedStruct = new Struct("WSAPROTOCOL_INFOW")
  .UInt32Array("head", 5).Buffer("ProviderId", 16).UInt32LE("dwCatalogEntryId").Int32LE("ChainLen")
  .UInt32Array("ChainEntries", 7).Int32Array("numbers", 9).UInt32LE("dwMessageSize").UInt32LE("dwProviderReserved")
  .Buffer("szProtocol", 512).compile();
const typedValue = new TypedStruct(Buffer.from(BYTES));

function encodeTyped(): unknown {
  const struct = new TypedStruct();
  struct.head.set(typedValue.head);
  struct.ProviderId.set(typedValue.ProviderId);
  struct.dwCatalogEntryId = typedValue.dwCatalogEntryId;
  struct.ChainLen = typedValue.ChainLen;
  struct.ChainEntries.set(typedValue.ChainEntries);
  struct.numbers.set(typedValue.numbers);
  struct.dwMessageSize = typedValue.dwMessageSize;
  struct.dwProviderReserved = typedValue.dwProviderReserved;
  struct.szProtocol.set(typedValue.szProtocol);
  return struct;
}

const readSocketType = WSAPROTOCOL_INFOW.reader("iSocketType");

assertEquals(decodeByHand(BYTES), INFO);
encodeByHand(INFO, INTO);
assertEquals(INTO, BYTES);

let sink: unknown;
const CASES: Record<string, Record<string, () => void>> = {
  "decode all fields": {
    "by hand": () => sink = decodeByHand(BYTES),
    "this library": () => sink = WSAPROTOCOL_INFOW.decode(BYTES),
    "koffi": () => sink = koffi.decode(BYTES, KOFFI),
    "typed-struct": () => sink = new TypedStruct(Buffer.from(BYTES.buffer)).toJSON(),
  },
  "encode all fields": {
    "by hand": () => encodeByHand(INFO, INTO),
    "this library": () => sink = WSAPROTOCOL_INFOW.encode(INFO, INTO),
    "koffi": () => koffi.encode(INTO, KOFFI, koffiValue),
    "typed-struct": () => sink = encodeTyped(),
  },
  "read one field": {
    "by hand": () => sink = new DataView(BYTES.buffer, BYTES.byteOffset, 628).getInt32(88, true),
    "this library": () => sink = readSocketType(BYTES),
  },
};

for (const [name, contestants] of Object.entries(CASES)) {
  const times = Object.fromEntries(Object.keys(contestants).map((who) => [who, [] as number[]]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [who, run] of Object.entries(contestants)) {
      const nanoseconds = time(run, who === "typed-struct" ? 3_000 : 100_000);
      if (round > 0) times[who]!.push(nanoseconds);
    }
  }
  const base = median(times["by hand"]!);
  console.log(`\n${name}`);
  for (const [who, samples] of Object.entries(times)) {
    const nanoseconds = median(samples);
    console.log(`  ${who.padEnd(14)}${nanoseconds.toFixed(0).padStart(8)} ns  ${(nanoseconds / base).toFixed(2)}×`);
  }
}
void sink;

/** Nanoseconds a call takes, over a loop of calls. */
function time(run: () => void, times: number): number {
  const start = performance.now();
  for (let index = 0; index < times; index++) run();
  return (performance.now() - start) * 1e6 / times;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
