// Takes requests to upgrade in a process that may have few descriptors, and refuses them: CONTROL_FILE.
import { onUpgradeRequest, UpgradeError } from "@winsock/handoff";

const refuse = () => Promise.reject(new UpgradeError("refused", "there is no next version"));
using _listening = onUpgradeRequest(refuse, { controlFile: Deno.args[0]! });
// Half a second after its start Deno opens something for itself, and panics if it cannot.
await new Promise((resolve) => setTimeout(resolve, 1_000));
console.log("listening");
await new Promise((resolve) => setTimeout(resolve, 60_000));
