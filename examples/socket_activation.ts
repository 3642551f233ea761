/**
 * Answers one connection on a listener that systemd or systemfd passed, or else on its own listener.
 *
 *     systemd-socket-activate -l 127.0.0.1:8080 --fdname=web deno run --no-prompt \
 *       --allow-env=LISTEN_PID,LISTEN_PIDFDID,LISTEN_FDS,LISTEN_FDNAMES,LISTEN_FDS_FIRST_FD,SYSTEMFD_SOCKET_SERVER,SYSTEMFD_SOCKET_SECRET,NOTIFY_SOCKET \
 *       --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 examples/socket_activation.ts
 *
 * With these permissions it cannot open a port through Deno, and can only read these variables.
 *
 * @module
 */
import { listen } from "@winsock/handoff";
import { notify, receiveSystemfd, systemdSockets } from "@winsock/handoff/interop";

using systemd = systemdSockets();
using systemfd = await receiveSystemfd();
using listener = systemd.takeListener("web") ?? systemfd.takeListener(0) ?? listen({ hostname: "127.0.0.1", port: 0 });
const origin = systemd.length > 0 ? "passed by systemd" : systemfd.length > 0 ? "passed by systemfd" : "of its own";
console.log(`Process ${Deno.pid} listens on port ${listener.addr.port}, ${origin}`);
await notify({ READY: 1, STATUS: `Listening on port ${listener.addr.port}` });

using conn = (await listener.accept()).toConn();
await conn.write(new TextEncoder().encode(`Hello from process ${Deno.pid}, on a listener ${origin}\n`));
await conn.closeWrite();
await notify({ STOPPING: 1 });
