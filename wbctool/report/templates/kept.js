// What the browser keeps for the next visit. It may forbid that to a file, or have no room; the page works without.
const Kept = (() => {
  function read(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  }

  function write(key, value) {
    try {
      localStorage.setItem(key, value);
    } catch { /* as above */ }
  }

  // null also for what is not ours
  function readJson(key) {
    try {
      return JSON.parse(read(key));
    } catch {
      return null;
    }
  }

  return { read, readJson, write };
})();
