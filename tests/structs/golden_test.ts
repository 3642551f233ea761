// The field tables against what a C compiler makes of the Windows headers, and against what Windows wrote.
import { assert, assertEquals } from "@std/assert";
import { duplicateSocket, openSocket } from "@winsock/handoff";
import { WinsockProvider } from "@winsock/handoff/spi";
import * as structs from "@winsock/handoff/structs";
import { type Struct, WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { guid } from "../../structs/guid.ts";
import { connection } from "../kit/connections.ts";
import blobs from "../golden/blobs.json" with { type: "json" };
import layouts from "../golden/layouts.json" with { type: "json" };

const { GUID, WSPPROC_TABLE, WSPUPCALLTABLE, constants, ...tables } = layouts;

for (const [name, golden] of Object.entries(tables)) {
  Deno.test(`${name} is laid out as the compiler does it`, () => {
    const struct = structs[name as keyof typeof structs] as unknown as Struct<unknown>;
    assertEquals([struct.name, struct.size], [name, golden.size]);
    const rows = struct.fields.map(({ name, offset, type }): [string, number[]] => [name, [offset, type.size]]);
    assertEquals<unknown>(Object.fromEntries(rows), golden.fields);
  });
}

Deno.test("a GUID, and the function tables, have the compiler's size and order", () => {
  assertEquals(guid.size, GUID.size);
  for (
    const [golden, ours] of [[WSPPROC_TABLE, structs.WSPPROC_TABLE], [WSPUPCALLTABLE, structs.WSPUPCALLTABLE]] as const
  ) {
    assertEquals(golden.size, ours.length * 8);
    const inOrder = Object.entries(golden.fields).sort(([, [a]], [, [b]]) => a! - b!).map(([name]) => name);
    assertEquals(inOrder, [...ours]);
  }
});

Deno.test("constants and error codes have the compiler's values", () => {
  const { AF, BYTE_ORDER, FD, IPPROTO, PFL, SECURITY_PROTOCOL, SOCK, WSA_ERRORS, WSA_FLAG, XP1 } = structs;
  const { MAX_PROTOCOL_CHAIN, WSAPROTOCOL_LEN } = structs;
  const ours: Record<string, number> = {
    ...{ ...AF, ...BYTE_ORDER, ...FD, ...IPPROTO, ...PFL, ...SECURITY_PROTOCOL, ...SOCK, ...WSA_FLAG, ...XP1 },
    ...{ ...WSA_ERRORS, MAX_PROTOCOL_CHAIN, WSAPROTOCOL_LEN },
  };
  const differing = Object.entries(constants).filter(([name, value]) => ours[name] !== value);
  assertEquals(differing, []);
  const unknown = Object.keys(ours).filter((name) => !(name in constants));
  assertEquals(unknown, NEWER_THAN_THE_HEADERS);
});

/** What the headers of mingw-w64 10 do not have, and Microsoft's documentation does. */
const NEWER_THAN_THE_HEADERS = ["AF_LINK", "AF_HYPERV"];

Deno.test("blobs that Windows wrote decode, and encode to the same bytes", () => {
  const w = Uint8Array.fromHex(blobs.WSAPROTOCOL_INFOW);
  const a = Uint8Array.fromHex(blobs.WSAPROTOCOL_INFOA);
  const info = WSAPROTOCOL_INFOW.decode(w);
  assertEquals([info.iAddressFamily, info.iSocketType, info.iProtocol], [2, 1, 6]);
  assertEquals(info.ProviderId, "e70f1aa0-ab8b-11cf-8ca3-00805f48a192");
  assertEquals(info.ProtocolChain.ChainLen, 1);
  assert((info.dwServiceFlags1 & structs.XP1.XP1_IFS_HANDLES) !== 0);
  assertEquals(WSAPROTOCOL_INFOW.encode(info), w);
  const ansi = WSAPROTOCOL_INFOA.decode(a);
  assertEquals(ansi.szProtocol, info.szProtocol);
  assertEquals(WSAPROTOCOL_INFOA.encode(ansi), a);
});

Deno.test(
  "W and A forms of the same socket say the same",
  { ignore: Deno.build.os !== "windows" },
  async () => {
    using pair = await connection();
    const blob = duplicateSocket(pair.server, Deno.pid);
    const w = WSAPROTOCOL_INFOW.decode(blob);
    const bytes = new WinsockProvider().duplicateSocketA(pair.server.handle, Deno.pid);
    const a = WSAPROTOCOL_INFOA.decode(bytes);
    assertEquals(WSAPROTOCOL_INFOA.encode(a), bytes);
    const named = ({ ProviderId, dwCatalogEntryId, iAddressFamily, iProtocol, szProtocol }: WSAPROTOCOL_INFOW) => ({
      ProviderId,
      dwCatalogEntryId,
      iAddressFamily,
      iProtocol,
      szProtocol,
    });
    assertEquals(named(a), named(w));
    for (const info of [blob, WSAPROTOCOL_INFOW.encode(a)]) (await openSocket(info)).close();
  },
);
