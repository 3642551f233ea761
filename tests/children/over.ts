// Runs another child script over the provider that is named: over.ts PROVIDER SCRIPT.
import { useProvider } from "@winsock/handoff/spi";
import { openNamed, type ProviderName } from "../kit/providers.ts";

const [provider, script] = Deno.args;
using _ = useProvider(openNamed(provider as ProviderName));
if (script === "echo") await import("./echo.ts");
else if (script === "reject") await import("./reject.ts");
else if (script === "listener") await import("./listener.ts");
else throw new Error(`There is no ${script}`);
