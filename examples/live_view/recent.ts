/**
 * What happened lately, in constant memory.
 *
 * @module
 */

const SECONDS = 60;
const MAX_SAMPLES = 500;
const SAMPLE_AGE_MS = 10_000;

/** Counts by the second, for a minute. */
export class Minute {
  readonly #seconds: number[] = [];
  #current = 0;

  add(): void {
    this.#current++;
  }

  /** A second has passed. */
  tick(): void {
    this.#seconds.push(this.#current);
    if (this.#seconds.length > SECONDS) this.#seconds.shift();
    this.#current = 0;
  }

  /** The whole seconds so far, the latest last. */
  get seconds(): readonly number[] {
    return this.#seconds;
  }
}

/** Quantiles of the last ten seconds, and of 500 samples at most. */
export class Latency {
  readonly #samples: { readonly at: number; readonly milliseconds: number }[] = [];
  #next = 0;

  add(milliseconds: number): void {
    this.#samples[this.#next] = { at: performance.now(), milliseconds };
    this.#next = (this.#next + 1) % MAX_SAMPLES;
  }

  /** In milliseconds; nothing if there was nothing. */
  get quantiles(): { p50: number | null; p99: number | null } {
    const oldest = performance.now() - SAMPLE_AGE_MS;
    const sorted = this.#samples.filter(({ at }) => at > oldest).map(({ milliseconds }) => milliseconds)
      .sort((one, other) => one - other);
    const quantile = (part: number) => sorted[Math.floor(sorted.length * part)] ?? null;
    return { p50: quantile(0.5), p99: quantile(0.99) };
  }
}
