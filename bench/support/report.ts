import { formatNumber, renderTable } from './table.ts';
import type { Cell } from './table.ts';

/** A figure with the target that it must reach. */
export interface Check {
  readonly what: string;
  readonly target: string;
  readonly measured: number;
  readonly unit: string;
  readonly pass: boolean;
}

interface Section {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: Cell[][];
  readonly notes: string[];
}

/** The results of a run. Sections are printed as they come; the JSON is written at the end. */
export class Report {
  readonly #sections: Section[] = [];
  readonly #checks: Check[] = [];
  readonly #print: (text: string) => void;

  constructor(print: (text: string) => void) {
    this.#print = print;
  }

  get checks(): readonly Check[] {
    return this.#checks;
  }

  /** Prints and keeps a finished table. */
  section(title: string, columns: readonly string[], rows: Cell[][], notes: string[] = []): void {
    const section = { title, columns, rows, notes };
    this.#sections.push(section);
    this.#print(`\n${title}\n\n${renderTable(columns, rows)}\n${notes.map((note) => `\n  ${note}`).join('')}`);
  }

  atLeast(what: string, target: number, measured: number, unit: string): void {
    this.#check(what, `at least ${formatNumber(target)}`, measured, unit, measured >= target);
  }

  /** Of a figure that is checked several times, the largest is kept. */
  atMost(what: string, target: number, measured: number, unit: string): void {
    const before = this.#checks.findIndex((check) => check.what === what);
    if (before >= 0) {
      const [check] = this.#checks.splice(before, 1);
      measured = Math.max(measured, check!.measured);
    }
    this.#check(what, `at most ${formatNumber(target)}`, measured, unit, measured <= target);
  }

  #check(what: string, target: string, measured: number, unit: string, pass: boolean): void {
    this.#checks.push({ what, target, measured, unit, pass: pass && Number.isFinite(measured) });
  }

  printChecks(): void {
    if (this.#checks.length === 0) return;
    const rows = this.#checks.map((check) => [
      check.what,
      check.target,
      formatNumber(check.measured),
      check.unit,
      check.pass ? 'pass' : 'MISS',
    ]);
    this.#print(`\nTargets\n\n${renderTable(['what', 'target', 'measured', 'unit', ''], rows)}\n`);
  }

  toJson(about: Readonly<Record<string, unknown>>): string {
    const sections = this.#sections.map(({ title, columns, rows, notes }) => ({
      title,
      notes,
      rows: rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i] ?? null]))),
    }));
    return `${JSON.stringify({ ...about, sections, checks: this.#checks }, null, 2)}\n`;
  }
}
