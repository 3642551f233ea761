// Descriptors that the system made, and then refused what they were to be.
import { assertThrows } from "@std/assert";
import { connect, listen } from "@winsock/handoff";
import { WinsockError } from "@winsock/handoff/ffi";
import { AF_UNIX } from "../../ffi/socket_address.ts";
import { acceptNow, newSocket, newSocketPair } from "../../ffi/unix/descriptors.ts";
import { unixSystem, useUnixSystem } from "../../ffi/unix/libc.ts";
import { SOCK } from "../../structs/constants.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

/** Linux does not have it for sockets: F_SETFL says EINVAL. */
const O_DIRECT = Deno.build.arch === "aarch64" ? 0o200000 : 0o40000;

Deno.test("new sockets that cannot be made non-blocking leave no descriptor behind", onLinux, async () => {
  const system = unixSystem();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  await assertNothingLeaks(async () => {
    using _client = await connect({ port: listener.addr.port });
    useUnixSystem({ ...system, newSocketFlags: undefined, O_NONBLOCK: O_DIRECT });
    try {
      assertThrows(() => newSocket(AF_UNIX, SOCK.SOCK_STREAM), WinsockError, "EINVAL");
      assertThrows(() => newSocketPair(), WinsockError, "EINVAL");
      assertThrows(() => acceptNow(listener.handle), WinsockError, "EINVAL");
    } finally {
      useUnixSystem(system);
    }
  });
});
