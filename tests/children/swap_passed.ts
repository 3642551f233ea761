// Passes its two sockets on the other way round, to a shell that says what it got.
import { spawnActivated, systemdSockets } from "@winsock/handoff/interop";

using passed = systemdSockets();
const [first, second] = [passed.takeListener(0)!, passed.takeListener(1)!];
const script = `echo "$LISTEN_FDNAMES"; readlink /proc/$$/fd/3 /proc/$$/fd/4`;
spawnActivated("sh", [["second", second], ["first", first]], { args: ["-c", script] });
