// Takes requests to upgrade in a process that may have few descriptors, and refuses them: CONTROL_FILE.
import { onUpgradeRequest, UpgradeError } from "@winsock/handoff";

// Deno opens two descriptors for signals half a second after its start, unless it has them, and panics if it cannot.
Deno.addSignalListener("SIGINT", () => {});
const refuse = () => Promise.reject(new UpgradeError("refused", "there is no next version"));
using _listening = onUpgradeRequest(refuse, { controlFile: Deno.args[0]! });
console.log("listening");
await new Promise((resolve) => setTimeout(resolve, 60_000));
