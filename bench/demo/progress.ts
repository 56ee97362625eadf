import { formatNumber } from '../support/table.ts';

export interface ProgressLine {
  readonly name: string;
  readonly count: number;
  readonly note: string;
}

const barChars = 30;
const terminalEveryMs = 200;
const plainEveryMs = 2_000;

/** Shows the progress: lines that are redrawn on a terminal, or a new line every 2 s elsewhere. */
export class Progress {
  readonly #output: NodeJS.WriteStream;
  readonly #lines: () => readonly ProgressLine[];
  #drawn = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(output: NodeJS.WriteStream, lines: () => readonly ProgressLine[]) {
    this.#output = output;
    this.#lines = lines;
  }

  start(): void {
    const terminal = this.#output.isTTY;
    const show = (): void => {
      if (terminal) this.#redraw();
      else this.#output.write(`${this.#plain()}\n`);
    };
    this.#timer = setInterval(show, terminal ? terminalEveryMs : plainEveryMs);
  }

  stop(): void {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    if (this.#output.isTTY) this.#redraw();
    else this.#output.write(`${this.#plain()}\n`);
  }

  #redraw(): void {
    const lines = this.#lines();
    const most = Math.max(1, ...lines.map((line) => line.count));
    if (this.#drawn > 0) this.#output.write(`\u001b[${this.#drawn}A`);
    for (const { name, count, note } of lines) {
      const filled = Math.round((count / most) * barChars);
      const bar = '█'.repeat(filled) + '·'.repeat(barChars - filled);
      this.#output.write(`\u001b[2K${name.padEnd(12)} ${bar} ${formatNumber(count).padStart(8)}  ${note}\n`);
    }
    this.#drawn = lines.length;
  }

  #plain(): string {
    return this.#lines()
      .map(({ name, count, note }) => `${name} ${formatNumber(count)}${note === '' ? '' : ` (${note})`}`)
      .join(' · ');
  }
}
