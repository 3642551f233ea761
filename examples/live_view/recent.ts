/**
 * Recent statistics, in constant memory.
 *
 * @module
 */

const SECONDS = 60;
const MAX_SAMPLES = 500;
const SAMPLE_AGE_MS = 10_000;

/** Counts per second, for one minute. */
export class Minute {
  readonly #seconds: number[] = [];
  #current = 0;

  add(count = 1): void {
    this.#current += count;
  }

  /** Begins the next second. */
  tick(): void {
    this.#seconds.push(this.#current);
    if (this.#seconds.length > SECONDS) this.#seconds.shift();
    this.#current = 0;
  }

  /** The counts of the complete seconds, the latest last. */
  get seconds(): readonly number[] {
    return this.#seconds;
  }
}

/** Quantiles of the last ten seconds, of at most 500 samples. */
export class Latency {
  readonly #samples: { readonly at: number; readonly milliseconds: number }[] = [];
  #next = 0;

  add(milliseconds: number): void {
    this.#samples[this.#next] = { at: performance.now(), milliseconds };
    this.#next = (this.#next + 1) % MAX_SAMPLES;
  }

  /** The quantiles in milliseconds; `null` without samples. */
  get quantiles(): { p50: number | null; p99: number | null } {
    const oldest = performance.now() - SAMPLE_AGE_MS;
    const sorted = this.#samples.filter(({ at }) => at > oldest).map(({ milliseconds }) => milliseconds)
      .sort((one, other) => one - other);
    const quantile = (part: number) => sorted[Math.floor(sorted.length * part)] ?? null;
    return { p50: quantile(0.5), p99: quantile(0.99) };
  }
}
