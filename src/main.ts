import { flushCompileCache } from 'node:module';
import { readSettings, SettingsError, type Settings } from './config/settings.ts';
import { systemClock, systemRandom } from './time/system.ts';

/** `npm start` and `millrace start`: reads the settings, runs the broker until a signal or a failure ends it, and says how it went. */

const exitFailed = 1;
/** As sysexits.h has it: the command was used wrongly. */
const exitUsage = 64;

function settingsOrExit(): Settings {
  try {
    const reading = readSettings(process.argv.slice(2), process.env, systemRandom);
    if (reading.kind === 'start') return reading.settings;
    process.stdout.write(`${reading.text}\n`);
    process.exit(0);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(exitUsage);
  }
}

async function run(settings: Settings): Promise<void> {
  // Loaded only now: it takes a second, which nobody should wait for who asked for help or mistyped a setting.
  const [{ createLogger }, { Server }] = await Promise.all([
    import('./server/logger.ts'),
    import('./server/server.ts'),
  ]);
  const log = createLogger(settings.logLevel, settings.brokerId);
  const server = new Server({
    settings,
    log,
    clock: systemClock,
    random: systemRandom,
    say: (text) => process.stdout.write(`${text}\n`),
  });
  let signals = 0;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      signals++;
      // Whoever asks twice does not want to wait for the drain.
      if (signals > 1) process.exit(exitFailed);
      log.info(`${signal}: draining`);
      void server.stop();
    });
  }
  // Written now and not at the exit alone: after a kill -9 the next start would have to compile everything again.
  void server.start().then(() => {
    flushCompileCache();
  });
  const ending = await server.ended;
  if (ending.reason === 'failed') {
    process.stderr.write(`${ending.error.message}\n`);
    log.debug({ err: ending.error }, 'the end');
  }
  process.exit(ending.reason === 'failed' ? exitFailed : 0);
}

await run(settingsOrExit());
