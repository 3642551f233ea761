// Protocol chains: which structure each provider of a chain is given.
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { Socket, WinsockError } from "@winsock/handoff";
import {
  defaultProvider,
  duplicateForCaller,
  duplicateSocketA,
  MemoryProvider,
  openNativeProvider,
  type ServiceProvider,
  socketA,
  toAnsi,
  toWide,
} from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { type ChainOfThree, chainOfThree, type Structure } from "../kit/chains.ts";
import { connection } from "../kit/connections.ts";
import { AF_INET, loopback, native, NATIVE_ENTRY, NATIVE_PATH, withNative } from "../kit/native.ts";
import type { TravelledFunction } from "../kit/recording.ts";

const PROVIDERS: Record<string, { make: () => ServiceProvider; ignore?: boolean }> = {
  memory: { make: () => new MemoryProvider() },
  system: { make: defaultProvider },
  native: { make: () => openNativeProvider(NATIVE_PATH, NATIVE_ENTRY), ...withNative },
};

for (const [name, { make, ignore = false }] of Object.entries(PROVIDERS)) {
  Deno.test(
    `${name}: layers are given the chain's structure unmodified, the base its own, W and A`,
    { ignore },
    async () => {
      if (name === "native") native().provider_reset();
      const { catalog, recorder, provider, chain, base, ids } = chainOfThree(make());
      using pair = await connection();
      const { handle } = pair.server;

      const calls = (name: TravelledFunction) => {
        const calls = recorder.take(name);
        assertEquals(calls.map(({ entryId }) => entryId), [...ids]);
        assert(calls[1]!.array === calls[0]!.array, "the same structure, not one like it");
        return calls.map(({ given }) => given);
      };
      const blob = provider.duplicateSocket(handle, Deno.pid);
      const filledByBase = recorder.calls.at(-1)!.returned;
      assertEquals(recorder.calls.slice(0, 3).map(({ given }) => given), [chain, chain, base], "WSPStartup");
      recorder.calls.splice(0, 3);
      assertEquals(calls("WSPDuplicateSocket"), [chain, chain, base]);
      assertEquals(blob, duplicateForCaller(filledByBase, { chain, base }));
      const info = WSAPROTOCOL_INFOW.decode(blob);
      assertEquals(
        [info.dwCatalogEntryId, info.ProtocolChain, info.ProviderId],
        [provider.protocolInfo.dwCatalogEntryId, provider.protocolInfo.ProtocolChain, provider.protocolInfo.ProviderId],
      );

      const s = await provider.socket(blob);
      assertEquals(calls("WSPSocket"), [blob, blob, filledByBase]);
      assertNotEquals(s, handle);
      provider.closeSocket(s);

      const blobA = duplicateSocketA(provider, handle, Deno.pid);
      const filled = recorder.calls.at(-1)!.returned;
      assertEquals([blobA.byteLength, blobA], [
        WSAPROTOCOL_INFOA.size,
        toAnsi(duplicateForCaller(filled, { chain, base })),
      ]);
      assertEquals(calls("WSPDuplicateSocket"), [chain, chain, base], "providers know W only");
      const opened = await socketA(provider, blobA);
      assertEquals(calls("WSPSocket"), [toWide(blobA), toWide(blobA), filled]);
      provider.closeSocket(opened);

      const fresh = await provider.socket(chain);
      assertEquals(calls("WSPSocket"), [chain, chain, base]);
      provider.closeSocket(fresh);

      assertEquals(provider.addressToString(loopback(80)), "127.0.0.1:80");
      assertEquals(calls("WSPAddressToString"), [chain, chain, base]);
      assertEquals(provider.stringToAddress("127.0.0.1:80", AF_INET), loopback(80));
      assertEquals(calls("WSPStringToAddress"), [chain, chain, base]);
      assertEquals(recorder.violations(catalog), []);
      provider[Symbol.dispose]();
    },
  );
}

Deno.test("a blob the base signs as another of its entries comes back to it as it was", async () => {
  const three = chainOfThree(defaultProvider());
  using provider = three.provider;
  using pair = await connection("::1");
  const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
  const filled = three.recorder.calls.at(-1)!.returned;
  using socket = Socket.fromHandle(await provider.socket(blob));
  assertEquals(socket.remoteAddr, pair.client.localAddr);
  assertEquals(three.recorder.calls.at(-1)!.given, filled);
  assertEquals(three.recorder.violations(three.catalog), []);
});

Deno.test("what stands in the structure WSPDuplicateSocket fills does not matter to the base: it is given its own", async () => {
  const { recorder, provider, base, chain } = chainOfThree(new MemoryProvider());
  using pair = await connection();
  provider.addressToString(loopback(1));
  recorder.calls.splice(0);
  const info = new Uint8Array(WSAPROTOCOL_INFOW.size).fill(0xa5);
  const garbage = info.slice();
  provider.functions.WSPDuplicateSocket(pair.server.handle, Deno.pid, info);
  assertEquals(recorder.calls.map(({ given }) => given), [garbage, garbage, base]);
  assertEquals(info.subarray(20, 72), chain.subarray(20, 72));
  provider.closeSocket(await provider.socket(info));
  provider[Symbol.dispose]();
});

/** Everything a structure travels through, once. */
async function useAll({ provider, chain }: ChainOfThree, socket: Socket): Promise<void> {
  const attempts: (() => unknown)[] = [
    async () => provider.closeSocket(await provider.socket(provider.duplicateSocket(socket.handle, Deno.pid))),
    async () => provider.closeSocket(await provider.socket(chain)),
    () => provider.addressToString(loopback(1)),
    () => provider.stringToAddress("1.2.3.4:5", AF_INET),
  ];
  for (const attempt of attempts) {
    try {
      await attempt();
    } catch (error) {
      // A provider may refuse what it should not have been given.
      if (!(error instanceof WinsockError)) throw error;
    }
  }
}

const FUNCTIONS = ["WSPStartup", "WSPDuplicateSocket", "WSPSocket", "WSPAddressToString", "WSPStringToAddress"];

Deno.test("the recording provider finds nothing to complain of in layers that keep the rule", async () => {
  using pair = await connection();
  const three = chainOfThree(new MemoryProvider());
  await useAll(three, pair.server);
  assertEquals(new Set(three.recorder.calls.map((call) => call.function)), new Set(FUNCTIONS));
  assertEquals(three.recorder.violations(three.catalog), []);
});

/** A changed copy. */
function changed(change: (info: WSAPROTOCOL_INFOW) => Partial<WSAPROTOCOL_INFOW>): (info: Structure) => Structure {
  return (bytes) => {
    const info = WSAPROTOCOL_INFOW.decode(bytes);
    return WSAPROTOCOL_INFOW.encode({ ...info, ...change(info) });
  };
}

const MISDEEDS: [string, Parameters<typeof chainOfThree>[1] & object, RegExp][] = [
  ["changes the name", { fromFirst: changed(() => ({ szProtocol: "mine" })) }, /changed: szProtocol$/],
  ["shortens the chain", {
    fromFirst: changed(({ ProtocolChain: { ChainEntries } }) => ({
      ProtocolChain: { ChainLen: 2, ChainEntries: [...ChainEntries.slice(1), 0] },
    })),
  }, /changed: ProtocolChain$/],
  ["uses dwProviderReserved, which is the base's", {
    fromFirst: changed(() => ({ dwProviderReserved: 77 })),
  }, /changed: dwProviderReserved$/],
  ["passes a copy", { fromFirst: (info) => info.slice() }, /was given a copy of the structure$/],
  ["substitutes too early", {
    fromFirst: changed(() => ({ ProtocolChain: { ChainLen: 1, ChainEntries: [0, 0, 0, 0, 0, 0, 0] } })),
  }, /"second layer" was given a structure that was changed: ProtocolChain$/],
  ["passes the chain to the base", {
    fromSecond: changed(() => ({ ProtocolChain: { ChainLen: 2, ChainEntries: [1002, 1, 0, 0, 0, 0, 0] } })),
  }, /"TCP\/IP in memory" was not given the base provider's own structure: ProtocolChain$/],
  ["signs the base's structure", {
    fromSecond: changed(() => ({ ProviderId: "11111111-2222-3333-4444-555555555555" })),
  }, /own structure: ProviderId$/],
];
for (const [misdeed, spoil, complaint] of MISDEEDS) {
  Deno.test(`a layer that ${misdeed} is found out`, async () => {
    using pair = await connection();
    const three = chainOfThree(new MemoryProvider(), spoil);
    await useAll(three, pair.server);
    const violations = three.recorder.violations(three.catalog);
    assert(violations.length > 0);
    assert(violations.some((violation) => complaint.test(violation)), violations.join("\n"));
    // A spoiled WSPStartup keeps a chain from starting at all; where it starts, every function is found out.
    const functions = new Set(violations.map((violation) => violation.split(" ")[0]!));
    assert(functions.has("WSPStartup"));
    if (three.recorder.calls.some((call) => call.function === "WSPSocket")) assertEquals(functions, new Set(FUNCTIONS));
  });
}
