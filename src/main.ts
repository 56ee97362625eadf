import { flushCompileCache } from 'node:module';
import { readSettings, SettingsError, type Reading } from './config/settings.ts';
import { StopSignals, stopSignals } from './server/stop-signals.ts';
import { systemClock, systemRandom } from './time/system.ts';

/** `npm start` and `millrace start`: runs the broker until a signal or a failure ends it. */

const exitFailed = 1;
/** As sysexits.h has it: the command was used wrongly. */
const exitUsage = 64;

type Start = Reading & { readonly kind: 'start' };

function settingsOrExit(): Start {
  try {
    const reading = readSettings(process.argv.slice(2), process.env, systemRandom);
    if (reading.kind === 'start') return reading;
    process.stdout.write(`${reading.text}\n`);
    process.exit(0);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(exitUsage);
  }
}

async function run({ settings, nameOf }: Start): Promise<void> {
  // Loaded only now: it takes a second, which nobody should wait for who asked for help or mistyped
  // a setting.
  const [{ createLogger }, { Output }, { Server }] = await Promise.all([
    import('./server/logger.ts'),
    import('./server/output.ts'),
    import('./server/server.ts'),
  ]);
  const [stdout, stderr] = [new Output(process.stdout), new Output(process.stderr)];
  const log = createLogger(settings.logLevel, settings.brokerId, stderr);
  /** A reader that does not read must not keep the process from ending. */
  const exit = async (code: number): Promise<never> => {
    await Promise.all([stdout, stderr].map((output) => output.flushed(systemClock)));
    process.exit(code);
  };
  const server = new Server({
    settings,
    nameOf,
    log,
    clock: systemClock,
    random: systemRandom,
    say: (text) => {
      stdout.write(`${text}\n`);
    },
  });
  const signals = new StopSignals();
  for (const signal of stopSignals) {
    process.on(signal, () => {
      const action = signals.heard(signal, systemClock.nowMs());
      // A second request means that the operator does not want to wait for the drain.
      if (action === 'exit') process.exit(exitFailed);
      if (action === 'nothing') return;
      log.info(`${signal}: draining`);
      void server.stop();
    });
  }
  // Written now and not at the exit alone: after a kill -9 the next start would have to compile
  // everything again.
  void server.start().then(() => {
    flushCompileCache();
  });
  const ending = await server.ended;
  if (ending.reason === 'failed') {
    stderr.write(`${ending.error.message}\n`);
    log.debug({ err: ending.error }, 'the end');
  }
  await exit(ending.reason === 'failed' ? exitFailed : 0);
}

await run(settingsOrExit());
