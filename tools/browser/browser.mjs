// What the tests of the page share: Debian's chromium, waiting for what is expected, and words for what the page shows.
// Nothing sleeps for a fixed time. Screenshots go to $COVEY_BUILD/page.
import { accessSync, mkdirSync } from 'node:fs';

const chromium = '/usr/bin/chromium';
const shots = `${process.env.COVEY_BUILD ?? 'build'}/page`;
export const patience = 8000;

// Exit code 77: cannot run here.
export function skip(reason) {
  console.log(`skipped: ${reason}`);
  process.exit(77);
}

export async function launch() {
  try { accessSync(chromium); } catch { skip(`${chromium} is missing; run tools/setup test`); }
  let library;
  try { library = (await import('playwright-core')).chromium; } catch { skip('playwright-core is missing; run tools/setup test'); }
  mkdirSync(shots, { recursive: true });
  return library.launch({
    executablePath: chromium, headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'] });
}

export const devices = {
  desktop: { viewport: { width: 1280, height: 800 }, locale: 'en-GB' },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2, locale: 'en-GB' },
};

// A page in a browser window of its own. What fails in its script is added to `errors`.
export async function openPage(browser, address, { device = 'desktop', scheme = 'light', errors = [] } = {}) {
  const context = await browser.newContext({ ...devices[device], colorScheme: scheme });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(address);
  return page;
}

export async function until(what, check, within = patience) {
  const end = Date.now() + within;
  for (let last; ; await new Promise((again) => setTimeout(again, 25))) {
    try { if ((last = await check())) return last; } catch (failure) { last = failure; }
    if (Date.now() > end) throw new Error(`waited in vain: ${what} (${last})`);
  }
}

export const row = (page, who) => page.locator(`.person[data-who="${who}"]`);
export const bubbles = (page) => page.locator('.bubble').allTextContents();
export const bubble = (page, text) => page.locator('.row', { has: page.locator('.bubble').getByText(text, { exact: true }) });

export async function write(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

export async function state(page, text, wanted) {
  await until(`“${text}” is ${wanted}`, async () => (await bubble(page, text).getAttribute('data-state')) === wanted);
}

export async function presence(page, who, wanted) {
  await page.locator(`.person[data-who="${who}"][data-presence="${wanted}"]`).waitFor();
}

export async function shot(page, name) {
  await page.evaluate(() => Promise.all(document.getAnimations().filter((a) => a.effect.getComputedTiming().iterations !== Infinity)
    .map((a) => a.finished.catch(() => {}))));
  await page.screenshot({ path: `${shots}/${name}.png` });
}

export async function step(name, work, page) {
  const began = Date.now();
  try {
    await work();
  } catch (failure) {
    await page?.screenshot({ path: `${shots}/failed-${name}.png` }).catch(() => {});
    throw failure;
  }
  console.log(`ok ${name} (${Date.now() - began} ms)`);
}
