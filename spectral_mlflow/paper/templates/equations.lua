-- Forms of an equation (of filter.lua) for lines of any length: in one line, over several, over still more.
-- Each is a paragraph of its Div.

-- Tokens of TeX with the depth of braces, brackets and environments that each stands in.
local function tokens(tex)
  local found, depth, place = pandoc.List(), 0, 1
  local bracketed = false -- Whether the outermost bracket that is open is one of \left.
  while place <= #tex do
    local token = tex:match("^\\%a+", place) or tex:match("^\\.", place) or tex:sub(place, place)
    local closes = token == "}" or token == ")" or token == "]" or token == "\\end" or token == "\\right"
    local opens = token == "{" or token == "(" or token == "[" or token == "\\begin" or token == "\\left"
    if closes then depth = depth - 1 end
    -- The bracket after \left and \right counts with them.
    local bracket = (token == "\\left" or token == "\\right") and tex:match("^%s*\\?[^%s]", place + #token) or ""
    if depth == 0 and opens then bracketed = token == "\\left" end
    found:insert { text = token .. bracket, depth = depth, bracketed = bracketed }
    if opens then depth = depth + 1 end
    place = place + #token + #bracket
  end
  return found
end

local RELATIONS = { ["="] = true, ["\\leftarrow"] = true, ["\\approx"] = true }

-- A line that is aligned at its first relation and goes on in a new line at each sum behind it; with
-- "deep" also at the sums in the outermost brackets.
local function aligned(line, deep)
  local out, related = pandoc.List(), false
  for _, token in ipairs(line) do
    local text, sums = token.text, token.text == "+" or token.text == "-"
    if token.depth == 0 and not related and RELATIONS[text] then
      related = true
      text = "&" .. text
    elseif related and sums and (token.depth == 0 or deep and token.depth == 1 and token.bracketed) then
      text = " \\\\ &\\quad " .. text
    elseif deep and token.depth == 0 then
      text = text:gsub("^\\left(.+)", "\\Bigl%1 "):gsub("^\\right(.+)", "\\Bigr%1 ")
    end
    out:insert(text)
  end
  local whole = table.concat(out)
  if not related then return "&" .. whole end
  if deep or not whole:find("\\\\", 1, true) then whole = "&" .. whole:gsub("&", "\\\\ &\\quad ", 1) end
  return whole
end

-- An equation over several lines, for columns that are too narrow for one.
local function split(tex, deep)
  local lines, line = pandoc.List(), pandoc.List()
  for _, token in ipairs(tokens(tex)) do
    if token.depth == 0 and token.text == "\\qquad" then
      lines:insert(line)
      line = pandoc.List()
    else
      line:insert(token)
    end
  end
  lines:insert(line)
  if #lines > 1 and not deep then
    lines = lines:map(function(one)
      return "&" .. table.concat(one:map(function(token) return token.text end))
    end)
  else
    lines = lines:map(function(one) return aligned(one, deep) end)
  end
  return "\\begin{aligned} " .. table.concat(lines, " \\\\ ") .. " \\end{aligned}"
end

function Div(div)
  if not div.classes:includes("equation") then return nil end
  local tex = div.content[1].content[1].text
  if tex:find("\\begin", 1, true) then return nil end
  local forms = pandoc.List { tex, split(tex, false), split(tex, true) }
  div.content = forms:map(function(form) return pandoc.Para { pandoc.Math("DisplayMath", form) } end)
  return div
end
