/**
 * Decisions on Windows. Each slot is an auto-reset event. The first successful wait resets the event, so only one of
 * the two processes succeeds. The process that offers makes the events. The handles in the other process allow only
 * waiting (`SYNCHRONIZE`), so that process cannot open a decision again.
 *
 * @module
 */
import {
  DECISION_SLOTS,
  DecisionMeans,
  type OfferDecisions,
  type SourceDecisions,
  type TakeDecisions,
  type TargetDecisions,
} from "../decisions.ts";
import {
  closeHandle,
  handleFunctions,
  HandleReceiver,
  lastWinsockError,
  SYNCHRONIZE,
  WAIT_FAILED,
  WAIT_OBJECT_0,
} from "./libraries.ts";

/** One event of a table. */
interface EventSlot {
  readonly event: bigint;
  /** The handle of the event in the other process. */
  readonly handle: bigint;
}

/** The events of a table as the process uses them that offers. Each is made when its slot is first used. */
class OfferEvents implements OfferDecisions {
  readonly #process: HandleReceiver;
  readonly #slots: (EventSlot | undefined)[] = new Array(DECISION_SLOTS);

  /**
   * Makes a table for decisions with another process, which must not end meanwhile.
   *
   * @param processId The process id of the other process.
   * @throws {WinsockError} If the process does not exist, or this process has no right to it.
   */
  constructor(processId: number) {
    this.#process = new HandleReceiver(processId);
  }

  open(slot: number): bigint {
    const made = this.#slots[slot];
    if (made === undefined) return (this.#slots[slot] = this.#make()).handle;
    const set = handleFunctions().SetEvent(made.event);
    if (set === 0) throw lastWinsockError(`open decision ${slot}`, "SetEvent");
    return made.handle;
  }

  decide(slot: number): boolean {
    const { event } = this.#slots[slot] ?? {};
    return event !== undefined && handleFunctions().WaitForSingleObject(event, 0) === WAIT_OBJECT_0;
  }

  close(): void {
    for (const slot of this.#slots) if (slot !== undefined) closeHandle(slot.event);
    this.#slots.fill(undefined);
    this.#process[Symbol.dispose]();
  }

  #make(): EventSlot {
    const event = handleFunctions().CreateEventW(0n, 0, 1, 0n);
    if (event === 0n) throw lastWinsockError("make a decision", "CreateEventW");
    try {
      return { event, handle: this.#process.give(event, SYNCHRONIZE) };
    } catch (error) {
      closeHandle(event);
      throw error;
    }
  }
}

/** The events of a table as the process uses them that takes, by the handles in the OFFER frames. */
class TakeEvents implements TakeDecisions {
  readonly #handles: (bigint | undefined)[] = new Array(DECISION_SLOTS);

  remember(slot: number, handle: bigint): void {
    const known = this.#handles[slot] ??= handle;
    if (known !== handle) {
      throw new RangeError(`Cannot use handle ${handle} for decision ${slot}: its handle is ${known}`);
    }
  }

  decide(slot: number, handle: bigint): boolean {
    this.remember(slot, handle);
    const waited = handleFunctions().WaitForSingleObject(handle, 0);
    if (waited === WAIT_FAILED) {
      throw new RangeError(`Cannot use handle ${handle} for decision ${slot}: it is not open`);
    }
    return waited === WAIT_OBJECT_0;
  }

  close(): void {
    for (const handle of this.#handles) if (handle !== undefined) closeHandle(handle);
    this.#handles.fill(undefined);
  }
}

/** Both tables as the source uses them. */
export class SourceEvents extends OfferEvents implements SourceDecisions {
  readonly means = DecisionMeans.EVENTS;
  readonly descriptor = undefined;
  readonly back: TakeEvents = new TakeEvents();

  override close(): void {
    super.close();
    this.back.close();
  }
}

/** Both tables as the target uses them. */
export class TargetEvents extends TakeEvents implements TargetDecisions {
  readonly #sourceProcessId: number;
  #back: OfferEvents | undefined;

  /** @param sourceProcessId The process id of the source. */
  constructor(sourceProcessId: number) {
    super();
    this.#sourceProcessId = sourceProcessId;
  }

  back(): OfferDecisions {
    return this.#back ??= new OfferEvents(this.#sourceProcessId);
  }

  override close(): void {
    super.close();
    this.#back?.close();
  }
}
