/**
 * How results are printed.
 *
 * @module
 */
import { OURS } from "./lane.ts";
import type { Results } from "./results.ts";
import type { CpuPerHandoff } from "./samples.ts";

const NAME_WIDTH = 22;

/** The table of one number in flight. A ratio says how many times as fast as the row's contestant this library is. */
export function handoffTable(results: Results, inFlight: number): string {
  const medians = results.handoffs(inFlight);
  const reference = medians.get(OURS)?.perSecond;
  const lines = [
    `${inFlight} in flight`,
    row(
      "",
      [
        "per second",
        "ours to it",
        "first byte p50, p99",
        "taken p50, p99",
        "CPU µs user+system: source, target, client, wineserver",
      ],
    ),
  ];
  for (const [name, sample] of medians) {
    lines.push(row(name, [
      sample.perSecond.toFixed(0),
      name === OURS ? "" : ratio(reference, sample.perSecond),
      `${milliseconds(sample.firstByteP50)}, ${milliseconds(sample.firstByteP99)}`,
      `${milliseconds(sample.takenP50)}, ${milliseconds(sample.takenP99)}`,
      cpu(sample.cpu),
    ]));
    if (sample.trouble !== "") lines.push(`    ${sample.trouble}`);
  }
  lines.push(...[...medians.keys()].map((name) => samplesLine(name, results.rates(name, inFlight))));
  return lines.join("\n");
}

/** The table of the channel alone. */
export function channelTable(results: Results): string {
  const medians = results.channel();
  const reference = medians.get(OURS);
  const lines = [
    "The channel alone: one connection again and again, 64 in a batch",
    row("", ["per second", "ours to it"]),
  ];
  for (const [name, perSecond] of medians) {
    lines.push(row(name, [perSecond.toFixed(0), name === OURS ? "" : ratio(reference, perSecond)]));
  }
  lines.push(...[...medians.keys()].map((name) => samplesLine(name, results.channelRates(name))));
  return lines.join("\n");
}

/** The fastest but for this library. */
export function bestOther(
  rates: Map<string, number>,
): { name: string; perSecond: number } | undefined {
  const others = [...rates].filter(([name]) => name !== OURS).sort((a, b) => b[1] - a[1]);
  return others[0] && { name: others[0][0], perSecond: others[0][1] };
}

function ratio(value: number | undefined, base: number): string {
  return value === undefined ? "-" : `${(value / base).toFixed(2)}×`;
}

function milliseconds(value: number): string {
  return Number.isFinite(value) ? `${value.toFixed(2)} ms` : "-";
}

function cpu({ source, target, client, wineserver }: CpuPerHandoff): string {
  const one = ({ user, system }: { user: number; system: number }) => `${user.toFixed(0)}+${system.toFixed(0)}`;
  const server = wineserver.user + wineserver.system > 0 ? `, ${one(wineserver)}` : "";
  return `${one(source)}, ${one(target)}, ${one(client)}${server}`;
}

function samplesLine(name: string, rates: readonly number[]): string {
  return `    all samples of ${name}: ${rates.map((rate) => rate.toFixed(0)).join(" ")}`;
}

function row(name: string, [rate = "", ...cells]: string[]): string {
  const [ratio = "", first = "", taken = "", last = ""] = cells;
  return `  ${name.padEnd(NAME_WIDTH)}${rate.padStart(10)}${ratio.padStart(12)}${first.padStart(22)}${
    taken.padStart(22)
  }  ${last}`
    .trimEnd();
}
