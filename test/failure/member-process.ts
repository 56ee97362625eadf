import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { GroupLedger, StreamMember, type MemberOptions, type MemberReport } from './members.ts';

type Spec = Omit<MemberOptions, 'ledger' | 'report'>;

/**
 * A member in a process of its own, which may be killed at any moment: it writes what it does to
 * its standard output.
 */
export class MemberProcess {
  readonly reports: MemberReport[] = [];
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;

  constructor({ ledger, ...spec }: Omit<MemberOptions, 'report'>) {
    const flags = ['--disable-warning=ExperimentalWarning', fileURLToPath(import.meta.url), JSON.stringify(spec)];
    this.#child = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.exited = new Promise((resolve) => {
      this.#child.once('close', () => resolve());
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const report = JSON.parse(line) as MemberReport;
      this.reports.push(report);
      if (report.type === 'delivered') ledger.note({ ...report, offset: BigInt(report.offset) });
      if (report.type === 'acked') ledger.confirm(report.partition, BigInt(report.next));
    });
  }

  of<T extends MemberReport['type']>(type: T): Extract<MemberReport, { type: T }>[] {
    return this.reports.filter((report): report is Extract<MemberReport, { type: T }> => report.type === type);
  }

  /** As the operating system does when memory is short. Resolves when it is gone. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }
}

if (process.argv[1] === import.meta.filename) {
  const spec = JSON.parse(process.argv[2]!) as Spec;
  const report = (line: MemberReport): void => {
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  new StreamMember({ ...spec, ledger: new GroupLedger(), report }).start();
}
