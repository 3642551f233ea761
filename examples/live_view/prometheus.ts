/**
 * The statistics of a pool in Prometheus' text format.
 *
 * @module
 */
import type { WorkerPoolStatistics } from "@winsock/handoff";

/** The content type of the format. */
export const PROMETHEUS = "text/plain; version=0.0.4";

/** A sample: its labels and its value. */
type Sample = readonly [labels: Record<string, string | number>, value: number];

/** Writes the statistics of a pool. */
export function prometheus({ taken, returned, inFlight, waiting, timeToTake, workers }: WorkerPoolStatistics): string {
  const states = Map.groupBy(workers, ({ state }) => state);
  const quantiles: Sample[] = [[{ quantile: 0.5 }, timeToTake.p50 / 1000], [{ quantile: 0.99 }, timeToTake.p99 / 1000]];
  return [
    metric("handoff_taken_total", "counter", "Sockets that workers took", [[{}, taken]]),
    metric("handoff_returned_total", "counter", "Offers whose socket came back", [[{}, returned]]),
    metric("handoff_in_flight", "gauge", "Offers under way", [[{}, inFlight]]),
    metric("handoff_waiting", "gauge", "Sockets that wait for a worker", [[{}, waiting]]),
    metric("handoff_time_to_take_seconds", "gauge", "Recent time from an offer until it is taken", quantiles),
    metric(
      "handoff_workers",
      "gauge",
      "Workers in each state",
      [...states].map(([state, { length }]) => [{ state }, length]),
    ),
    metric(
      "handoff_worker_connections",
      "gauge",
      "Connections that each worker has",
      workers.map(({ index, held }) => [{ worker: index }, held]),
    ),
    metric(
      "handoff_worker_restarts_total",
      "counter",
      "Workers of each slot after the first",
      workers.map(({ index, restarts }) => [{ worker: index }, restarts]),
    ),
  ].join("");
}

function metric(name: string, type: "counter" | "gauge", help: string, samples: readonly Sample[]): string {
  const lines = samples.map(([labels, value]) => {
    const list = Object.entries(labels).map(([label, text]) => `${label}="${text}"`).join(",");
    return `${name}${list === "" ? "" : `{${list}}`} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}
