"use strict";
// The page of `aigc serve`: plain functions over one state; nothing is fetched but from this server.

const WORDS = {
  en: {
    skip: "To the form", model: "Model", input: "Input", reference: "Style or reference", prompt: "Text",
    count: "How many", class: "Class", seed: "Seed", options: "Options", go: "Make", send: "Send", stop: "Stop",
    new: "New conversation", history: "Earlier", token: "Token of this server", enter: "Enter", any: "each in turn",
    drop: "choose a file or drop it here:", working: "working", waiting: "others wait:", done: "done in", download: "Download",
    label: "made by a model (aigc)", none: "Choose a file first.", empty: "Write something first.", stopped: "stopped",
    lost: "The server does not answer. Is it still running?", given: "input", made: "result", takes: "takes", makes: "makes",
    reload: "This browser could not keep the history of the last results.", language: "中文",
    kinds: { image: "images", text: "texts", music: "music", audio: "sounds", labels: "classes" },
  },
  zh: {
    skip: "转到表单", model: "模型", input: "输入", reference: "风格或参考", prompt: "文字",
    count: "数量", class: "类别", seed: "随机种子", options: "选项", go: "生成", send: "发送", stop: "停止",
    new: "新对话", history: "历史", token: "此服务器的令牌", enter: "确定", any: "依次各类",
    drop: "选择文件或拖到这里：", working: "正在生成", waiting: "排队人数：", done: "用时", download: "下载",
    label: "由模型生成（aigc）", none: "请先选择文件。", empty: "请先输入文字。", stopped: "已停止",
    lost: "服务器没有响应。它还在运行吗？", given: "输入", made: "结果", takes: "输入", makes: "输出",
    reload: "此浏览器无法保存最近结果的历史。", language: "English",
    kinds: { image: "图像", text: "文字", music: "音乐", audio: "声音", labels: "类别" },
  },
};
const $ = (id) => document.getElementById(id);
const state = { language: "en", models: [], model: null, file: null, reference: null, turns: [], abort: null, past: [] };
const word = (key) => WORDS[state.language][key];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made) made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Words.

function speak(language) {
  state.language = language;
  localStorage.setItem("aigc-language", language);
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const one of document.querySelectorAll("[data-text]")) one.textContent = word(one.dataset.text);
  $("language").textContent = word("language");
  if (state.model) show(state.model);
}

// The server.

async function call(path, settings = {}) {
  const token = sessionStorage.getItem("aigc-token");
  const headers = { ...(settings.headers || {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...settings, headers });
  if (response.status === 401) {
    await askToken();
    return call(path, settings);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    const error = told.error || { message: `${response.status} ${response.statusText}` };
    throw new Error(error.message + (error.hint ? ` (${error.hint})` : ""));
  }
  return response;
}

function askToken() {
  const dialog = $("ask-token");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("aigc-token", $("token").value);
      resolve();
    }, { once: true });
  });
}

// What a model wants.

function show(model) {
  state.model = model;
  const takes = model.takes;
  const writes = model.makes === "text";
  const draws = takes === null || model.input_optional;
  const kind = (name) => word("kinds")[name] || name;
  $("about").textContent = `${model.family}: ${takes ? `${word("takes")} ${kind(takes)}, ` : ""}${word("makes")} ${kind(model.makes)}`;
  $("drop").hidden = takes === null || takes === "text";
  $("file").accept = model.endings.join(",");
  $("endings").textContent = `${word("drop")} ${model.endings.join(" ")}`;
  $("styles").hidden = model.references[1] === 0;
  $("reference").accept = model.endings.join(",");
  $("say").hidden = takes !== "text";
  $("count-label").hidden = !(draws && !writes);
  $("class-label").hidden = !(model.classes.length && "label" in model.values);
  $("class").replaceChildren(element("option", { value: "", textContent: word("any") }), ...model.classes.map((name) => element("option", { value: name, textContent: name })));
  $("go").textContent = model.chat ? word("send") : word("go");
  $("new").hidden = !model.chat;
  $("options").replaceChildren(...Object.entries(model.options.properties || {}).filter(([key]) => key !== "label").map(field));
}

function field([key, about]) {
  const value = state.model.values[key];
  const kinds = [about, ...(about.anyOf || [])];
  const choices = kinds.map((kind) => kind.enum).find(Boolean);
  const id = `option-${key}`;
  let input;
  if (typeof value === "boolean") input = element("input", { type: "checkbox", checked: value });
  else if (choices) {
    input = element("select", {}, ...choices.map((one) => element("option", { value: JSON.stringify(one), textContent: String(one) })));
    input.value = JSON.stringify(value);
  } else input = element("input", { type: "text", value: typeof value === "string" ? value : JSON.stringify(value) });
  input.id = id;
  input.dataset.key = key;
  return element("label", { title: about.description || "", htmlFor: id }, `${key} `, input);
}

function asked() {
  const found = {};
  for (const input of document.querySelectorAll("#options [data-key]")) {
    const before = state.model.values[input.dataset.key];
    let value;
    if (input.type === "checkbox") value = input.checked;
    else if (typeof before === "string" && input.tagName === "INPUT") value = input.value;
    else { try { value = JSON.parse(input.value); } catch { value = input.value; } }
    if (JSON.stringify(value) !== JSON.stringify(before)) found[input.dataset.key] = value;
  }
  if ($("class").value && !$("class-label").hidden) found.label = $("class").value;
  return found;
}

// What is given.

function choose(file, where, preview) {
  state[where] = file || null;
  $(preview).replaceChildren(...(file ? [shown(file.name, file.type, URL.createObjectURL(file))] : []));
}

function dropZone(zone, input, where, preview) {
  input.addEventListener("change", () => choose(input.files[0], where, preview));
  for (const name of ["dragover", "dragenter"]) zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0], where, preview); });
}

function shown(name, type, url) {
  if (type.startsWith("image/")) return element("img", { src: url, alt: name });
  if (type.startsWith("audio/") && type !== "audio/midi") return element("audio", { src: url, controls: true });
  return element("span", { className: "dim", textContent: name });
}

// Asking.

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

async function work(task) {
  if (state.abort) return;
  fail("");
  state.abort = new AbortController();
  const begun = performance.now();
  const seconds = () => `${((performance.now() - begun) / 1000).toFixed(1)} s`;
  $("go").disabled = true;
  $("stop").hidden = false;
  const clock = setInterval(() => { $("progress").textContent = `${word("working")} … ${seconds()}`; }, 200);
  try {
    await task(state.abort.signal);
    $("progress").textContent = `${word("done")} ${seconds()}`;
  } catch (error) {
    const stopped = error.name === "AbortError";
    $("progress").textContent = stopped ? word("stopped") : "";
    if (!stopped) fail(error instanceof TypeError ? word("lost") : error.message);
  } finally {
    clearInterval(clock);
    state.abort = null;
    $("go").disabled = false;
    $("stop").hidden = true;
  }
}

async function sample(signal) {
  const model = state.model;
  const body = new FormData();
  body.append("model", model.id);
  body.append("seed", $("seed").value || "0");
  body.append("options", JSON.stringify(asked()));
  if (state.file && !$("drop").hidden) body.append("input", state.file);
  if (state.reference && !$("styles").hidden) body.append("reference", state.reference);
  if (!$("say").hidden) body.append("prompt", $("prompt").value);
  if (!$("count-label").hidden && !state.file) body.append("n", $("count").value || "1");
  const response = await call("/v1/sample", { method: "POST", body, signal, headers: { Accept: "application/json" } });
  const { items } = await response.json();
  const entry = { model: model.id, items: items.map(({ name, type, sample, facts, content }) => ({ name, type, sample, facts, content })) };
  let given = null;
  if (state.file && !$("drop").hidden) given = { name: state.file.name, type: state.file.type, url: URL.createObjectURL(state.file) };
  else if (!$("say").hidden) given = { name: $("prompt").value, type: "text/plain" };
  result(entry, given);
  remember(entry);
}

function result(entry, given) {
  const parts = [];
  if (given) {
    const what = given.url ? shown(given.name, given.type, given.url) : element("pre", { textContent: given.name });
    parts.push(element("figure", {}, what, element("figcaption", { textContent: word("given") })));
  }
  const alone = entry.items.filter((item) => item.sample).length === 1;
  for (const item of entry.items) if (item.sample || !alone) parts.push(...figure(item)); // a sheet of one shows nothing new
  $("results").prepend(element("div", { className: "pair" }, ...parts));
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function figure(item) {
  const data = bytes(item.content);
  const blob = new Blob([data], { type: item.type });
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: item.name.split("/").pop(), textContent: word("download") });
  const caption = element("figcaption", {}, `${word("label")} · ${item.name} · `, link);
  if (item.name.endsWith(".jsonl") || item.name === "samples.txt" || item.name.endsWith(".csv")) {
    const text = new TextDecoder().decode(data);
    if (item.name.endsWith(".jsonl")) return [];
    if (item.name.endsWith(".csv")) return [element("figure", {}, classes(text), caption)];
    return [element("figure", {}, element("pre", { textContent: text }), caption)];
  }
  return [element("figure", {}, shown(item.name, item.type, url), caption)];
}

function classes(text) {
  const [head, row] = text.trim().split("\n").map((line) => line.split(","));
  const rows = [];
  for (let i = 1; i + 1 < (row || []).length; i += 2) {
    const p = Number(row[i + 1]);
    rows.push(element("tr", {}, element("td", { textContent: row[i] }), element("td", {}, element("meter", { value: p, min: 0, max: 1 })), element("td", { textContent: p.toFixed(3) })));
  }
  return rows.length ? element("table", {}, element("tbody", {}, ...rows)) : element("pre", { textContent: head.join(" ") });
}

async function converse(signal) {
  const text = $("prompt").value.trim();
  if (!text) throw new Error(word("empty"));
  state.turns.push({ role: "user", content: text });
  $("prompt").value = "";
  $("talk").append(element("div", { className: "turn user", textContent: text }));
  const answer = element("div", { className: "turn assistant" });
  $("talk").append(answer);
  const { max_tokens, temperature, top_p, stop, ...options } = asked();
  const body = JSON.stringify({ model: state.model.id, messages: state.turns, stream: true, seed: Number($("seed").value || 0), max_tokens, temperature, top_p, stop, options });
  try {
    const response = await call("/v1/chat/completions", { method: "POST", body, signal, headers: { "Content-Type": "application/json" } });
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      answer.textContent += event.choices[0].delta.content || "";
    }
  } finally {
    if (answer.textContent) state.turns.push({ role: "assistant", content: answer.textContent });
    else { state.turns.pop(); answer.remove(); }
  }
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    left += value;
    const parts = left.split("\n\n");
    left = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

// Earlier results, as long as the tab is open.

function remember(entry) {
  state.past.unshift(entry);
  state.past = state.past.slice(0, 12);
  while (state.past.length) {
    try {
      sessionStorage.setItem("aigc-past", JSON.stringify(state.past));
      break;
    } catch { state.past.pop(); } // the browser keeps no more
  }
  if (!state.past.length) $("progress").textContent = word("reload");
  showPast();
}

function showPast() {
  $("past").hidden = !state.past.length;
  $("history").replaceChildren(...state.past.map((entry) => {
    const image = entry.items.find((item) => item.type.startsWith("image/"));
    const face = image ? element("img", { src: `data:${image.type};base64,${image.content}`, alt: entry.model }) : entry.model;
    return element("button", { type: "button", title: entry.model, onclick: () => result(entry, null) }, face);
  }));
}

// Beginning.

async function begin() {
  const wanted = localStorage.getItem("aigc-language") || (navigator.language.startsWith("zh") ? "zh" : "en");
  speak(wanted);
  $("language").addEventListener("click", () => speak(state.language === "en" ? "zh" : "en"));
  dropZone($("drop"), $("file"), "file", "preview");
  dropZone($("styles"), $("reference"), "reference", "reference-preview");
  $("model").addEventListener("change", () => {
    choose(null, "file", "preview");
    $("file").value = "";
    show(state.models.find((model) => model.id === $("model").value));
  });
  $("stop").addEventListener("click", () => state.abort && state.abort.abort());
  $("new").addEventListener("click", () => { state.turns = []; $("talk").replaceChildren(); });
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const model = state.model;
    if (!model) return;
    if (model.chat) { work(converse); return; }
    if (!$("drop").hidden && !state.file && !model.input_optional) { fail(word("none")); return; }
    if (!$("say").hidden && !$("prompt").value) { fail(word("empty")); return; }
    work(sample);
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("form").requestSubmit(); }
  });
  try {
    state.past = JSON.parse(sessionStorage.getItem("aigc-past") || "[]");
  } catch { state.past = []; }
  showPast();
  try {
    state.models = (await (await call("/v1/models")).json()).data;
    $("model").replaceChildren(...state.models.map((model) => element("option", { value: model.id, textContent: model.id })));
    show(state.models[0]);
  } catch (error) {
    fail(error instanceof TypeError ? word("lost") : error.message);
  }
}

begin();
