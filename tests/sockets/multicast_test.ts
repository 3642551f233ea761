// Multicast, over the loopback interface.
import { assertEquals, assertRejects } from "@std/assert";
import { type DatagramSocket, listenDatagram, WinsockError } from "@winsock/handoff";
import { receiveText, sendText } from "../kit/datagrams.ts";

const LOOPBACK_INDEX = 1;

/** Runs a test, or says why this system cannot: many containers have no route for multicast. */
async function whereRouted(send: () => Promise<void>, test: () => Promise<void>): Promise<void> {
  try {
    await send();
  } catch (error) {
    const { codeName } = ((error as Error).cause ?? error) as WinsockError;
    if (!["WSAENETUNREACH", "WSAEHOSTUNREACH", "WSAEADDRNOTAVAIL"].includes(codeName)) throw error;
    return console.log(`left out, for this system has no route for it: ${(error as Error).message}`);
  }
  await test();
}

function members(hostname: string): [DatagramSocket, DatagramSocket] {
  const first = listenDatagram({ hostname, port: 0, reuseAddress: true, loopback: true });
  return [first, listenDatagram({ hostname, port: first.addr.port, reuseAddress: true, loopback: true })];
}

Deno.test("all members of an IPv4 group get what is sent to it, until they leave", async () => {
  const [first, second] = members("0.0.0.0");
  using _first = first;
  using _second = second;
  const group = { transport: "udp", hostname: "239.76.5.4", port: first.addr.port } as const;
  const membership = await first.joinMulticastV4(group.hostname, "127.0.0.1");
  await second.joinMulticastV4(group.hostname, "127.0.0.1");
  await membership.setTTL(0);
  assertEquals(first.getOption("IP_MULTICAST_TTL"), 0);
  first.setOption("IP_MULTICAST_IF", "127.0.0.1");
  await whereRouted(() => sendText(first, "to all", group), async () => {
    for (const member of [first, second]) assertEquals((await receiveText(member))[0], "to all");
  });
  await membership.setLoopback(false);
  assertEquals(first.getOption("IP_MULTICAST_LOOP"), false);
  await membership.leave();
  await assertRejects(
    () => membership.leave(),
    Error,
    "Cannot leave multicast group 239.76.5.4",
  );
});

Deno.test("all members of an IPv6 group get what is sent to it, until they leave", async () => {
  const [first, second] = members("::");
  using _first = first;
  using _second = second;
  const group = { transport: "udp", hostname: "ff01::7654", port: first.addr.port } as const;
  const membership = await first.joinMulticastV6(group.hostname, LOOPBACK_INDEX);
  await second.joinMulticastV6(group.hostname, LOOPBACK_INDEX);
  first.setOption("IPV6_MULTICAST_IF", LOOPBACK_INDEX);
  assertEquals(first.getOption("IPV6_MULTICAST_IF"), LOOPBACK_INDEX);
  await whereRouted(() => sendText(first, "to all", group), async () => {
    for (const member of [first, second]) assertEquals((await receiveText(member))[0], "to all");
  });
  await membership.setLoopback(false);
  assertEquals(first.getOption("IPV6_MULTICAST_LOOP"), false);
  await membership.leave();
  await assertRejects(
    () => membership.leave(),
    Error,
    "Cannot leave multicast group ff01::7654",
  );
});

Deno.test("groups and interfaces of the wrong family are refused", async () => {
  using socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  await assertRejects(() => socket.joinMulticastV4("ff01::1", "127.0.0.1"), TypeError, "must both be IPv4 addresses");
  await assertRejects(() => socket.joinMulticastV4("239.0.0.1", "lo"), TypeError, 'must be an IP address, got "lo"');
  await assertRejects(() => socket.joinMulticastV6("239.0.0.1", 1), TypeError, "must be an IPv6 address");
  await assertRejects(() => socket.joinMulticastV4("127.0.0.1", "127.0.0.1"), WinsockError, "WSAEINVAL");
});
