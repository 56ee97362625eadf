import { fstatSync, writeSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { printableLines } from '../errors/printable.ts';
import { limits } from '../limits/limits.ts';
import type { Clock } from '../time/clock.ts';
import { within } from '../time/within.ts';

/** stdout or stderr of this process. */
type StandardStream = Writable & { readonly fd: number; readonly isTTY: boolean };

/**
 * The broker's output, to a reader that may be slow, stopped or gone. The broker never waits for
 * the reader. It holds unread text up to `logBytesMax`, then drops and counts whole texts.
 */
export class Output {
  /** Called when the reader has taken everything, with the number of texts dropped meanwhile. */
  onResume: ((dropped: number) => void) | null = null;
  readonly isTerminal: boolean;
  readonly #stream: StandardStream;
  readonly #isFile: boolean;
  readonly #waiting = new Set<() => void>();
  #heldBytes = 0;
  #dropped = 0;
  #gone = false;

  constructor(stream: StandardStream) {
    this.#stream = stream;
    this.isTerminal = stream.isTTY;
    this.#isFile = isFile(stream.fd);
    // The pipe's reader has gone, or the terminal was closed. The broker goes on without it.
    stream.on('error', () => {
      this.#gone = true;
      this.#settle();
    });
    if (this.isTerminal) doNotWaitFor(stream);
  }

  write(text: string): void {
    if (this.#gone) return;
    const bytes = Buffer.from(printableLines(text));
    if (this.#heldBytes + bytes.length > limits.logBytesMax) this.#dropped += 1;
    else if (this.#isFile) this.#append(bytes);
    else this.#send(bytes);
  }

  /**
   * Resolves when the reader has taken everything or has gone, and after `logFlushMs` in any case.
   */
  async flushed(clock: Clock): Promise<void> {
    if (this.#heldBytes === 0 || this.#gone) return;
    const settled = Promise.withResolvers<void>();
    this.#waiting.add(settled.resolve);
    await within(clock, limits.logFlushMs, settled.promise);
  }

  #send(bytes: Buffer): void {
    this.#heldBytes += bytes.length;
    this.#stream.write(bytes, () => {
      this.#heldBytes -= bytes.length;
      if (this.#heldBytes === 0) this.#settle();
    });
  }

  /**
   * A full disk may have room for the next text, but an error of the stream would end it for good.
   */
  #append(bytes: Buffer): void {
    try {
      writeSync(this.#stream.fd, bytes);
      this.#settle();
    } catch {
      this.#dropped += 1;
    }
  }

  #settle(): void {
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
    const dropped = this.#dropped;
    this.#dropped = 0;
    if (dropped > 0 && !this.#gone) this.onResume?.(dropped);
  }
}

function isFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile();
  } catch {
    return false;
  }
}

/**
 * Makes writes to a terminal non-blocking, because Ctrl-S would otherwise stop the whole broker.
 * The handle is private; without it only this is lost.
 */
function doNotWaitFor(stream: Writable): void {
  const { _handle: handle } = stream as unknown as { readonly _handle?: { setBlocking?(blocking: boolean): void } };
  handle?.setBlocking?.(false);
}
