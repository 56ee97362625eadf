import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FromMember, MemberSpec, ToMember } from './member.ts';
import type { Handled } from './ledger.ts';

const memberProgram = fileURLToPath(new URL('./member.ts', import.meta.url));

export interface TeamOptions {
  readonly address: string;
  readonly topic: string;
  readonly group: string;
  readonly size: number;
  readonly onHandled: (handled: Handled) => void;
  readonly onFailed: (error: Error) => void;
}

/**
 * The member processes of one group. The demo kills them and breaks their streams, and they rejoin.
 */
export class Team {
  readonly group: string;
  readonly size: number;
  readonly #options: TeamOptions;
  readonly #members: ChildProcess[] = [];
  readonly #assigned = new Set<ChildProcess>();
  #stopping = false;
  #wakeReady: (() => void) | null = null;
  killed = 0;
  broken = 0;

  constructor(options: TeamOptions) {
    this.#options = options;
    this.group = options.group;
    this.size = options.size;
  }

  /** Resolves when every member has its partitions. */
  async start(): Promise<void> {
    const ready = new Promise<void>((resolve) => {
      this.#wakeReady = resolve;
    });
    for (let i = 0; i < this.size; i++) this.#launch(i);
    await ready;
  }

  get alive(): number {
    return this.#assigned.size;
  }

  /** Sends SIGKILL. The next member process starts when this one has exited. */
  kill(index: number): void {
    this.killed++;
    this.#members[index]?.kill('SIGKILL');
  }

  /** Breaks the stream of a member. The process stays and joins again. */
  breakStream(index: number): void {
    this.broken++;
    const message: ToMember = { type: 'break' };
    // A member that was just killed cannot get the message, but its stream is already broken.
    this.#members[index]?.send(message, () => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const running = this.#members.filter((member) => member.exitCode === null && member.signalCode === null);
    await Promise.all(
      running.map(
        (member) =>
          new Promise((resolve) => {
            member.once('exit', resolve);
            member.kill('SIGKILL');
          }),
      ),
    );
  }

  #launch(index: number): void {
    const { address, topic, group } = this.#options;
    const spec: MemberSpec = { address, topic, group, clientId: `${group}-${index + 1}` };
    const member = fork(memberProgram, [JSON.stringify(spec)], {
      execArgv: ['--disable-warning=ExperimentalWarning'],
      serialization: 'advanced',
    });
    this.#members[index] = member;
    member.on('message', (message) => {
      this.#take(member, message as FromMember);
    });
    member.once('exit', (code, signal) => {
      this.#assigned.delete(member);
      if (this.#stopping) return;
      if (signal === 'SIGKILL') this.#launch(index);
      else this.#options.onFailed(new Error(`member ${spec.clientId} ended with ${signal ?? code}`));
    });
  }

  #take(member: ChildProcess, message: FromMember): void {
    if (message.type === 'handled') this.#options.onHandled(message.handled);
    else if (member.signalCode === null) {
      this.#assigned.add(member);
      if (this.#assigned.size === this.size) this.#wakeReady?.();
    }
  }
}
