// Takes one socket and does with it what an owner does, with a fault at one step.
import { receive, type Received } from "@winsock/handoff";
import { defaultProvider } from "@winsock/handoff/spi";
import { freeze, kill } from "../kit/faults/acts.ts";
import { report } from "../kit/faults/events.ts";
import { comesLate, FaultPoint } from "../kit/faults/fault_point.ts";
import { own } from "../kit/faults/owner.ts";
import { shutDown } from "../kit/faults/shutdown.ts";

const point = new FaultPoint(JSON.parse(Deno.args[0]!));
const { fault } = point.plan;
/** The first socket this process opens is its control socket. */
let control: bigint | undefined;
let closesControl = false;

const provider = defaultProvider();
const open = provider.socket.bind(provider);
provider.socket = async (info) => {
  const socket = await open(info);
  control ??= socket;
  if (closesControl) shutDown(control);
  return socket;
};
point.watch("target", (source) => {
  if (fault === "kill target") kill(Deno.pid);
  else if (fault === "kill source") kill(source);
  else if (fault === "freeze target") freeze(Deno.pid);
  else if (fault === "close stdin") Deno.stdin.close();
  else if (control !== undefined) shutDown(control);
  else closesControl = true;
});

// It lives until it is ended, for its descriptors to be counted; two that Deno opens for signals half a second after its
// start are opened now.
setInterval(() => {}, 60_000);
Deno.addSignalListener("SIGINT", () => {});
report({ event: "started" });
let failure: string | null = null;
try {
  const { course } = point.step;
  const byHand = course === "reject" || course === "withdraw";
  for await (const received of receive({ accept: byHand ? "manual" : "automatic" })) take(received);
} catch (error) {
  failure = String(error);
}
report({ event: "loop", failure });

function take(received: Received): void {
  report({ event: "received" });
  if (point.step.course === "reject") received.reject("no");
  // One about to be killed does not begin to read: see the source.
  else if (fault === "kill target" && !comesLate(point.plan)) return;
  else if (point.step.course !== "withdraw") own(received.socket.toConn(), "target");
}
